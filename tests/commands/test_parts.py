"""Which acquisitions a model is judged by."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from commands.parts import conditions_for, say
from config.compose import compose


def settings_in_a_file(*overrides: str) -> dict[str, Any]:
    """As a model file keeps them."""
    settings = compose(overrides)
    return {"network": asdict(settings.network), "training": asdict(settings.training)}


def test_a_flat_model_is_judged_in_focus() -> None:
    dim, dense = conditions_for(settings_in_a_file(), ["dim", "density_4"], "dataset.frames=7")
    assert (dim.dataset.name, dense.dataset.name) == ("dim", "density_4")
    assert dim.dataset.frames == dense.dataset.frames == 7
    assert (dim.optics.psf, dim.optics.psf_sigma, dim.dataset.depth) == ("gaussian", 135.0, [0.0, 0.0])


def test_a_model_that_finds_z_is_judged_with_the_lens_it_learned() -> None:
    lens = (
        "training.domain.psf_sigma=[1.2,1.4]",
        "training.domain.focus_x=[-300,-200]",
        "training.domain.depth=[-500,300]",
    )
    model = settings_in_a_file("network=astigmatic", "training=astigmatic", *lens)
    (judged,) = conditions_for(model, ["density_1"])
    assert (judged.optics.psf, judged.optics.psf_sigma) == ("astigmatic", 130.0)
    assert judged.optics.focus == [-250.0, 200.0]
    assert judged.optics.focal_depth == [400.0, 400.0]
    assert judged.dataset.depth == judged.evaluation.isolated_depth == [-400.0, 240.0]


def test_another_lens_is_taken_where_it_is_named() -> None:
    model = settings_in_a_file("network=astigmatic", "training=astigmatic")
    (judged,) = conditions_for(model, ["density_1"], "optics=astigmatic_strong", "dataset.depth=[-100,100]")
    assert (judged.optics.name, judged.optics.psf_sigma) == ("astigmatic_strong", 110.0)
    assert judged.dataset.depth == [-100.0, 100.0]


def test_the_shipped_lens_is_that_of_the_optics_of_its_name() -> None:
    model = settings_in_a_file("network=astigmatic", "training=astigmatic")
    (judged,), named = conditions_for(model, ["density_1"]), compose(["optics=astigmatic"]).optics
    judged.optics.name = named.name
    assert judged.optics == named


def test_what_is_said_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    words = "D:/data [red]/run [1]: 12 [nm], " + "a path as long as that is not broken " * 5
    say(words)
    assert capsys.readouterr().out == f"{words}\n"
