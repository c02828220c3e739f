"""Weights of another network: what fits is taken, all else is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from config.errors import TrainingError
from config.schema import NetworkSettings
from models.network import Network
from models.registry import build_network
from models.transfer import transfer

TINY = NetworkSettings(name="tiny", past=1, future=1, encoder=[8, 8], features=8, heads=2, decoder=[8, 8])


def network(seed: int, settings: NetworkSettings = TINY) -> Network:
    torch.manual_seed(seed)
    return build_network(settings)


def test_all_of_a_twin_is_taken() -> None:
    source, target = network(1), network(2)
    report = transfer(target, source.state_dict(), "a twin")
    assert report.complete
    assert report.share == 1.0
    assert report.words() == f"All {len(source.state_dict())} weights were taken from a twin."
    assert all(torch.equal(target.state_dict()[name], weight) for name, weight in source.state_dict().items())


def test_another_context_leaves_only_the_distances_anew() -> None:
    source, target = network(1), network(2, replace(TINY, past=4))
    report = transfer(target, source.state_dict(), "default")
    assert report.reshaped == ("attention.bias 2×3 → 2×6",)
    assert not report.new
    assert not report.unused
    assert torch.equal(target.state_dict()["maps.weight"], source.state_dict()["maps.weight"])
    assert "attention.bias 2×3 → 2×6" in report.words()


def test_what_only_one_side_has_is_said() -> None:
    deep, shallow = network(1, replace(TINY, decoder=[8, 8, 8])), network(2)
    more = transfer(deep, shallow.state_dict(), "shallow")
    less = transfer(shallow, network(3, replace(TINY, decoder=[8, 8, 8])).state_dict(), "deep")
    assert all(name.startswith("decoder.") for name in (*more.new, *less.unused))
    assert len(more.new) == len(less.unused) > 0
    assert f"Begun anew, as shallow lacks them: {more.new[0]}" in more.words()
    assert f"{len(more.new) - 6} more" in more.words()
    assert f"Left in deep, as this network has none of that name: {less.unused[0]}" in less.words()


def test_a_network_of_three_dimensions_starts_as_one_of_two() -> None:
    flat, deep = network(2), network(1, replace(TINY, dimensions=3))
    report = transfer(deep, flat.state_dict(), "flat")
    assert {line.split()[0] for line in report.widened} == {"maps.weight", "maps.bias"}
    photons = torch.poisson(torch.full((1, 3, 20, 22), 40.0), generator=torch.Generator().manual_seed(0))
    before, after = vars(flat(photons)), vars(deep(photons))
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    assert after["sigma_z"].min() > 100


def test_a_layer_with_further_inputs_begins_by_not_heeding_them() -> None:
    source, target = network(1), network(2, replace(TINY, input_log=20.0))
    report = transfer(target, source.state_dict(), "narrow")
    assert {line.split()[0] for line in report.widened} == {
        "encoder.enter.first.weight", "decoder.enter.first.weight",
    }  # fmt: skip
    assert report.share == 1.0
    assert not report.complete
    assert "Widened by what begins anew: encoder.enter.first.weight 8×4×3×3 → 8×8×3×3" in report.words()
    photons = torch.poisson(torch.full((1, 3, 20, 22), 40.0), generator=torch.Generator().manual_seed(0))
    before, after = vars(source(photons)), vars(target(photons))
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)


def test_fewer_inputs_or_other_outputs_do_not_fit() -> None:
    wide, narrow = network(1, replace(TINY, input_log=20.0)), network(2)
    assert "encoder.enter.first.weight 8×8×3×3 → 8×4×3×3" in transfer(narrow, wide.state_dict(), "wide").reshaped
    more = transfer(network(3, replace(TINY, features=16)), narrow.state_dict(), "narrow")
    assert any(line.startswith("project.weight") for line in more.reshaped)


def test_weights_in_half_precision_are_taken_in_full() -> None:
    target = network(2)
    halves = {name: weight.half() for name, weight in network(1).state_dict().items()}
    transfer(target, halves, "half")
    assert target.state_dict()["maps.weight"].dtype == torch.float32
    assert torch.equal(target.state_dict()["maps.weight"].half(), halves["maps.weight"])


def test_where_nothing_fits_it_is_refused_and_nothing_changes() -> None:
    target = network(1)
    before = {name: weight.clone() for name, weight in target.state_dict().items()}
    other = network(2, NetworkSettings(kind="liteloc", past=1, future=1, features=8))
    with pytest.raises(TrainingError, match="nothing to start from"):
        transfer(target, other.state_dict(), "liteloc")
    assert all(torch.equal(before[name], weight) for name, weight in target.state_dict().items())
