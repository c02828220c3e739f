"""Processes of their own: what they send, what they fail with, and what they take."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from config.errors import RunError
from models.bench.apart import apart
from tests.models.bench import works


def test_what_is_sent_comes_in_order_from_another_process() -> None:
    taken = list[Any]()
    apart(works.answer, 41, taken.append)
    assert taken[0] == "asked"
    assert taken[1][0] == 42
    assert taken[1][1] != os.getpid()


@pytest.mark.parametrize(
    ("work", "given", "words"),
    [
        (works.refuse, "no such thing", "no such thing"),
        (works.stumble, "seven", "ValueError: seven"),
        (works.vanish, 7, "ended with status 7"),
    ],
)
def test_a_failure_is_told_in_words(work: Callable[..., None], given: Any, words: str) -> None:
    with pytest.raises(RunError, match=words):
        apart(work, given, lambda sent: None)


def test_a_process_has_a_memory_of_its_own() -> None:
    """Though this one, with torch and much else, has taken far more."""
    taken = list[int]()
    apart(works.fill, 100_000_000, taken.append)
    before, full, after = taken
    assert 90_000_000 < full - before < 130_000_000
    assert after > full - 2_000_000  # Linux counts a little late
    assert before < 120_000_000
