"""From overrides on the command line to the settings: Hydra composes the YAML groups beside this file.

A mistyped key, an unknown file of a group, a wrong type and a value out of range are each a SettingsError that names
the nearest thing that exists. A group also takes a file of the user's own: ``camera=my_camera.yaml``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard, cast, get_type_hints

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from config.errors import SettingsError
from config.limits import check, leaves
from config.schema import Settings

FOLDER = Path(__file__).resolve().parent
"""Holds ``liveloc.yaml`` and a folder of YAML files for each group."""

ADDRESS = re.compile(r"(?:(?:tcp|tls)://)?(?:[\w.-]{2,}|\[[0-9a-fA-F:]+\]):\d{1,5}")
"""HOST:PORT of a scheduler. A host has two letters or more, so that no drive of Windows is taken for one."""

FILES = ("maps", "psf_file", "structure_file")
"""Settings that name a file which belongs to the settings' own."""

GROUPS = tuple(entry.name for entry in fields(Settings) if entry.name not in ("model", "viewer"))
"""Names of the groups: camera, optics, network, training, dataset, photophysics, run, source, wire …"""


def compose(overrides: Sequence[str] = ()) -> Settings:
    """The settings that the YAML groups give, after ``overrides`` such as ``camera=challenge_emccd`` or
    ``run.block=8``; later ones win. Raises SettingsError.
    """
    prepared = _last_of_each([_prepare(override) for override in overrides])
    ConfigStore.instance().store(name="schema", node=Settings)
    try:
        with initialize_config_dir(config_dir=str(FOLDER), version_base="1.3"):
            settings = OmegaConf.to_object(hydra_compose("liveloc", overrides=prepared))
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(_in_words(error)) from error
    assert isinstance(settings, Settings)
    check(settings)
    return settings


def options(group: str) -> list[str]:
    """Names of the YAML files that come with liveloc for ``group``, sorted."""
    return sorted(path.stem for path in (FOLDER / group).glob("*.yaml"))


def keys() -> list[str]:
    """Every setting's dotted key, in the order of the schema."""
    return [key for key, _ in leaves(Settings())]


def to_yaml(settings: Settings) -> str:
    """All settings as YAML, in the order of the schema."""
    return OmegaConf.to_yaml(OmegaConf.structured(settings))


def _prepare(override: str) -> str:
    """An override in Hydra's grammar, after its key and, for a group, its option were found to exist."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"{override!r}: expected setting=value, such as run.block=8 or camera=challenge_emccd.")
    if key in GROUPS:
        return f"{key}={_option(key, value)}"
    if key not in keys():
        raise SettingsError(_no_such_setting(key))
    return f"{key}={_quoted(value) if _is_text(key) else value}"


def _last_of_each(prepared: list[str]) -> list[str]:
    """Hydra refuses a group that is given twice; here the later one wins, as with any other setting."""
    return list({override.partition("=")[0]: override for override in prepared}.values())


def _option(group: str, value: str) -> str:
    """The name under which Hydra finds ``value``: that of a shipped YAML file, or of a user's file stored for it."""
    if value in options(group):
        return value
    if group == "cluster" and ADDRESS.fullmatch(value):
        return _store(group, f"at_{value}", {"name": value, "kind": "address", "address": value})
    if re.search(r"[/\\]|\.ya?ml$", value):
        return _store_own_file(group, Path(value.strip("'\"")))
    found = get_close_matches(value, options(group), n=1, cutoff=0.5)
    hint = f" Did you mean {group}={found[0]}?" if found else ""
    raise SettingsError(
        f"{group}={value}: no such {group}.{hint} There are {', '.join(options(group))}; "
        f"a file of your own goes by its path: {group}=my_{group}.yaml."
    )


def _store_own_file(group: str, path: Path) -> str:
    """Register the user's YAML file as an option of the group; give the option's name."""
    values = _read_own_file(group, path)
    return _store(group, f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}", values)


def _store(group: str, name: str, values: dict[str, Any]) -> str:
    option = re.sub(r"\W", "_", name)
    ConfigStore.instance().store(group=group, name=option, node=values)
    return option


def _read_own_file(group: str, path: Path) -> dict[str, Any]:
    try:
        content: object = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"{group}={path}: the file cannot be read: {error.strerror}. Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{group}={path}: expected YAML, one `key: value` a line; {error}") from error
    if not _is_mapping(content):
        raise SettingsError(f"{group}={path}: expected YAML, one `key: value` a line; found {type(content).__name__}.")
    _check_keys(content, group, path)
    return _beside(content, path)


def _is_mapping(content: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(content, dict) and all(isinstance(key, str) for key in cast("dict[object, object]", content))


def _check_keys(content: dict[str, Any], group: str, path: Path) -> None:
    for key, value in content.items():
        dotted = f"{group}.{key}"
        if _is_mapping(value) and any(known.startswith(f"{dotted}.") for known in keys()):
            _check_keys(value, dotted, path)
        elif dotted not in keys():
            raise SettingsError(f"{path}: {_no_such_setting(dotted)}")


def _beside(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Files that a setting names, such as a camera's maps, are looked for beside the settings' own file first."""
    named = {key: path.parent / content[key] for key in FILES if isinstance(content.get(key), str)}
    return content | {key: str(file.resolve()) for key, file in named.items() if file.is_file()}


def _no_such_setting(key: str) -> str:
    """A sentence that names the closest key: by the whole of it, else by its last part in any group."""
    known = [*keys(), *GROUPS]
    closest = get_close_matches(key, known, n=1, cutoff=0.7)
    last = {name.rpartition(".")[2]: name for name in reversed(known)}
    by_last = get_close_matches(key.rpartition(".")[2], list(last), n=1, cutoff=0.75)
    suggestion = closest[0] if closest else last[by_last[0]] if by_last else ""
    hint = f"Did you mean {suggestion}?" if suggestion else "`liveloc settings` lists all of them."
    return f"{key}: no such setting. {hint}"


def _type_of(key: str) -> Any:
    """The annotation of a setting in the schema."""
    kind: Any = Settings
    for part in key.split("."):
        kind = get_type_hints(kind)[part]
    return kind


def _is_text(key: str) -> bool:
    return _type_of(key) in (str, str | None)


def _quoted(value: str) -> str:
    """Text as a Hydra string, so that a path with blanks, brackets or a comma needs no quoting of the user's own."""
    if value in ("null", "") or (len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]):
        return value or "''"
    escaped = re.sub(r"(\\*)'", lambda found: 2 * found[1] + r"\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{trailing * chr(92)}'"


_EXPECTED = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "text",
    "list[int]": "whole numbers in brackets, [1,2]",
    "list[float]": "numbers in brackets, [0.8,1.8]",
    "list[str]": "words in brackets, [csv,parquet]",
}


def _in_words(error: BaseException) -> str:
    """What OmegaConf or Hydra complained of: the setting, what it takes, and what was found."""
    cause = error
    while not isinstance(cause, OmegaConfBaseException) and (deeper := cause.__cause__ or cause.__context__):
        cause = deeper
    key = getattr(cause, "full_key", None) or ""
    first = str(cause).strip().splitlines()[0]
    base = re.sub(r"\[\d+\]$", "", key)
    if base not in keys():
        return f"the settings cannot be composed: {first}. Expected setting=value, such as run.block=8."
    return f"{base}: expected {_expected(base)}. {first}."


def _expected(key: str) -> str:
    kind = _type_of(key)
    name = (kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)).split(" | ")
    words = _EXPECTED.get(name[0], name[0])
    return f"{words}, or null for not known" if "None" in name else words
