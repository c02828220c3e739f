"""The curves of a training as a picture, drawn anew whenever there is more of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

PANELS = {"loss": ("total", "count", "place", "background"), "efficiency": ("efficiency",), "RMSE [nm]": ("rmse",)}
"""Title of a panel → columns of the metrics."""
SMOOTH = 20
"""Points that a line's mean runs over; the raw ones stand behind it, pale."""


class DrawCurves(Callback):
    """Keeps ``curves.png`` in the training's folder up to date."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Called by Lightning after every validation."""
        for logger in trainer.loggers:
            logger.save()
        draw_curves(self.folder)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called by Lightning at the end."""
        self.on_validation_end(trainer, pl_module)


def draw_curves(folder: Path) -> Path:
    """Draw ``curves.png`` from the metrics of every start in ``folder/curves``."""
    metrics = list(_rows(folder))
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in metrics if row.get(name)]
            if points:
                steps, values = zip(*points, strict=True)
                (line,) = axes.plot(steps, values, alpha=0.3 if len(points) > SMOOTH else 1.0, label=name)
                if len(points) > SMOOTH:
                    axes.plot(steps, _smooth(values), color=line.get_color())
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.2)
        if len(names) > 1:
            axes.legend()
    figure.savefig(folder / "curves.png", dpi=100)
    return folder / "curves.png"


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    starts = sorted(
        folder.glob("curves/from_step_*/metrics.csv"), key=lambda file: int(file.parent.name.split("_")[-1])
    )
    for file in starts:
        with file.open(encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines)


def _smooth(values: tuple[float, ...]) -> list[float]:
    """Mean of the last SMOOTH values at each."""
    starts = (max(0, end - SMOOTH) for end in range(1, len(values) + 1))
    return [sum(values[a:b]) / (b - a) for a, b in zip(starts, range(1, len(values) + 1), strict=True)]
