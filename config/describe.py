"""What each setting means: the strings under the fields of config/schema.py, read from its source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from typing import get_type_hints

from config import schema


def meanings() -> dict[str, str]:
    """What each setting means, with its unit, by dotted key, in the order of the schema."""
    return dict(_of_class(schema.Settings, ""))


def _of_class(kind: type, prefix: str) -> Iterator[tuple[str, str]]:
    texts = _docstrings()[kind.__name__]
    for name, annotation in get_type_hints(kind).items():
        if is_dataclass(annotation) and isinstance(annotation, type):
            yield from _of_class(annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, texts[name]


@cache
def _docstrings() -> dict[str, dict[str, str]]:
    tree = ast.parse(inspect.getsource(schema))
    return {node.name: dict(_fields(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for entry, text in pairwise(node.body):
        match entry, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, inspect.cleandoc(words)
            case _:
                pass
