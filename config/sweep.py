"""Several values of a setting at once, in Hydra's grammar: ``network=small,default`` or ``training.seed=range(3)``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of the overrides' values, the last override changing quickest."""
    return [list(chosen) for chosen in product(*map(_choices, overrides))]


def swept(overrides: Sequence[str], chosen: Sequence[str]) -> str:
    """What sets a combination apart, fit for the name of a folder: ``network=small,training.seed=1``."""
    return ",".join(one for one, given in zip(chosen, overrides, strict=True) if one != given)


def _choices(override: str) -> list[str]:
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
    except HydraException:  # not Hydra's grammar, such as a path: compose says what is wrong, if anything is
        return [override]
    if not parsed.is_sweep_override():
        return [override]
    return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]
