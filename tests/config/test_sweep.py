"""A sweep is every combination of the values that were given."""

from __future__ import annotations

from config.sweep import combinations, swept


def test_every_combination_in_order() -> None:
    given = ["network=small,default", "training.seed=range(2)", "training.steps=5"]
    found = combinations(given)
    assert found == [
        ["network=small", "training.seed=0", "training.steps=5"],
        ["network=small", "training.seed=1", "training.steps=5"],
        ["network=default", "training.seed=0", "training.steps=5"],
        ["network=default", "training.seed=1", "training.steps=5"],
    ]
    assert swept(given, found[1]) == "network=small,training.seed=1"


def test_lists_and_paths_are_one_value() -> None:
    given = ["network.encoder=[24,32]", r"model=C:\models\my model.onnx", "camera=a/b.yaml"]
    assert combinations(given) == [given]
    assert swept(given, given) == ""
