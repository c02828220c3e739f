"""Validation while a network trains: efficiency on scenes that are the same every time and that no training sees."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from config.schema import TrainingSettings
from models.evaluation.metrics import efficiency, match
from models.network import EmitterMap
from models.streaming import detect
from simulation.domain import Domain
from simulation.truth import SceneBatch

SEED = 1 << 62
"""Beyond every seed of a training's scenes."""
THRESHOLD = 0.45
"""Of probabilities as the network says them, before an export puts them right."""
RADIUS = 250.0
"""Largest distance of a pair [nm]."""
FLOOR = 100.0
"""Emitters with fewer photons in a frame are "don't care"."""
PIXEL = 100.0
"""Scenes are in pixels; the metrics want a size for one [nm]."""


@dataclass
class Tally:
    """Pairs found and missed, over many batches."""

    pairs: int = 0
    wrong: int = 0
    """False positives and false negatives."""
    squares: float = 0.0
    """Sum of the pairs' squared distances [nm²]."""

    def add(self, maps: EmitterMap, batch: SceneBatch) -> None:
        """Count one batch; maps are (B, T, H, W)."""
        pairs = match(_found(maps), _true(batch), RADIUS, FLOOR)
        self.pairs += len(pairs.found)
        self.wrong += pairs.false_positives + pairs.false_negatives
        self.squares += float((pairs.distance**2).sum())

    def figures(self) -> dict[str, float]:
        """Jaccard index, RMSE [nm] and efficiency; a network that finds nothing has an RMSE as large as the radius."""
        jaccard = self.pairs / max(1, self.pairs + self.wrong)
        rmse = (self.squares / self.pairs) ** 0.5 if self.pairs else RADIUS
        return {"jaccard": jaccard, "rmse": rmse, "efficiency": efficiency(jaccard, rmse)}


class ValidationScenes(Dataset[SceneBatch]):
    """The fixed scenes of a recipe's domain, a batch an item."""

    def __init__(self, recipe: TrainingSettings) -> None:
        self._domain = Domain(recipe.domain, recipe.sequence, recipe.size)
        self._recipe = recipe

    def __len__(self) -> int:
        return self._recipe.validation_batches

    def __getitem__(self, index: int) -> SceneBatch:
        return self._domain.batch(self._recipe.batch_size, torch.Generator().manual_seed(SEED + index))


def _found(maps: EmitterMap) -> pa.Table:
    flat = maps.each(lambda value: value.flatten(0, 1))
    exists = torch.ones((), device=flat.logit.device)
    rows = detect(flat, exists, torch.tensor(THRESHOLD, device=flat.logit.device))
    return _table(rows[:, 0].long(), rows[:, 1], rows[:, 2], rows[:, 3])


def _true(batch: SceneBatch) -> pa.Table:
    frames = batch.photons.shape[1]
    truth = batch.truth
    return _table(truth.scene * frames + truth.frame, truth.x, truth.y, truth.photons)


def _table(frame: Tensor, x: Tensor, y: Tensor, photons: Tensor) -> pa.Table:
    columns = {"frame": frame, "x": PIXEL * x, "y": PIXEL * y, "photons": photons}
    return pa.table({name: pa.array(value.detach().cpu().numpy()) for name, value in columns.items()})
