"""How the time of a call is shared out among its stages."""

from __future__ import annotations

import pytest

from models.bench.stages import shared_out


def test_stages_in_turn_on_one_thread() -> None:
    spans = [("encode", 0.0, 2.0), ("attend", 2.5, 3.0), ("decode", 3.0, 5.0), ("detect", 5.0, 6.0)]
    assert shared_out(spans, 7.0) == {"encode": 2.0, "attend": 0.5, "decode": 2.0, "detect": 1.0, "rest": 1.5}


def test_parts_side_by_side_on_two_threads() -> None:
    """Two threads decode for 3 and 2 s and detect for 1 and 0.5 s, within 4 s."""
    spans = [
        *(("encode", 0.0, 1.0), ("encode", 0.0, 2.0)),
        *(("decode", 2.0, 5.0), ("decode", 2.0, 4.0), ("detect", 5.0, 6.0), ("detect", 4.0, 4.5)),
    ]
    shared = shared_out(spans, 6.0)
    assert shared["encode"] == 2.0
    assert shared["decode"] == pytest.approx(4 * 5 / 6.5)
    assert shared["detect"] == pytest.approx(4 * 1.5 / 6.5)
    assert shared["rest"] == 0.0
    assert shared["attend"] == 0.0
