"""Training: scenes simulated on the fly, a loop by Lightning, checkpoints that resume to the step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.callbacks.weight_averaging import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from config.errors import TrainingError
from config.schema import DomainSettings, NetworkSettings, Settings, TrainingSettings
from engine.runtimes.torch_runtime import computes_in_bf16
from models.curves import DrawCurves
from models.loss import emitter_loss
from models.optimisers import make_optimiser
from models.registry import build_network
from models.transfer import transfer
from models.validation import Tally, ValidationScenes
from models.weights import model_path
from models.weights_file import read_weights
from simulation.domain import Domain
from simulation.truth import SceneBatch, Truth

logger = logging.getLogger(__name__)

PRECISION = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}
"""Lightning's words for training.precision; auto is one of the first and the last."""

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda _done: 1.0,
}
"""Share of the learning rate, by the share of the steps that are done."""


class SceneStream(IterableDataset[SceneBatch]):
    """Batches of simulated scenes. Batch n depends on the seed and n alone, so a resumed training misses nothing.

    Where several processes train together, each of the ``world`` takes every world-th batch, from its ``rank`` on.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        self.next_step = 0
        self.rank, self.world = 0, 1
        self._domain = Domain(settings.domain, settings.sequence, settings.size)

    def __iter__(self) -> Iterator[SceneBatch]:
        for step in range(self.next_step, self.settings.steps):
            # An odd factor keeps neighbouring seeds' streams apart.
            number = step * self.world + self.rank
            generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + number)
            yield self._domain.batch(self.settings.batch_size, generator)


class Training(lightning.LightningModule):
    """One network learning one domain."""

    def __init__(self, network: NetworkSettings, training: TrainingSettings) -> None:
        super().__init__()
        self.recipe = training
        self.stream = SceneStream(training)
        self._tally = Tally()
        self.network = build_network(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train_dataloader(self) -> DataLoader[SceneBatch]:
        """The stream itself; it makes whole batches."""
        self.stream.rank, self.stream.world = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(self.stream, batch_size=None)

    def val_dataloader(self) -> DataLoader[SceneBatch]:
        """The same scenes every time."""
        return DataLoader(ValidationScenes(self.recipe), batch_size=None)

    def transfer_batch_to_device(
        self,
        batch: SceneBatch,
        device: torch.device,
        dataloader_idx: int,  # noqa: ARG002 (Lightning's signature)
    ) -> SceneBatch:
        """Lightning cannot look into our dataclasses."""
        truth = Truth(**{name: value.to(device) for name, value in vars(batch.truth).items()})
        return SceneBatch(batch.photons.to(device), batch.background.to(device), truth)

    def training_step(self, batch: SceneBatch, _index: int) -> Tensor:
        """The loss of one batch. Raises TrainingError when it is no longer a number."""
        loss = emitter_loss(self.network.training_maps(batch), batch)
        if not math.isfinite(float(loss.total.detach())):
            raise TrainingError(
                f"the loss is not a number at step {self.global_step} (seed {self.recipe.seed}); the batch is kept as "
                f"{self._keep(batch)}. Lower training.learning_rate, or resume from the last checkpoint with another "
                "seed."
            )
        self.log_dict({name: getattr(loss, name).detach() for name in ("count", "place", "background", "total")})
        return loss.total

    def on_validation_epoch_start(self) -> None:
        """Count anew."""
        self._tally = Tally()

    def validation_step(self, batch: SceneBatch, _index: int) -> None:
        """Compare one batch with its truth."""
        self._tally.add(self.network(batch.photons), batch)

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all scenes together."""
        self.log_dict(self._tally.figures(), prog_bar=True)

    def _keep(self, batch: SceneBatch) -> Path:
        """Save a batch that broke the training, with its truth."""
        file = Path(self.recipe.output) / "bad_batch.safetensors"
        tensors = {"photons": batch.photons, "background": batch.background, **vars(batch.truth)}
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, file)
        return file

    def configure_optimizers(self) -> Any:
        """Warm-up, then the schedule."""
        optimiser = make_optimiser(self.network, self.recipe)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The settings travel with the weights."""
        checkpoint["network_settings"] = asdict(self.network.settings)
        checkpoint["training_settings"] = asdict(self.recipe)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the batch after the last one seen."""
        self.stream.next_step = checkpoint["global_step"]

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.recipe.warmup))
        return warm * SCHEDULES[self.recipe.schedule](min(1.0, step / self.recipe.steps))


def train(settings: Settings) -> Path:
    """Train as the settings say and give the checkpoint's path. Raises TrainingError, SettingsError.

    Beside the checkpoint ``last.ckpt`` stand ``best.ckpt``, the one that scored best on the fixed scenes of validation,
    and the curves: ``curves.png``, ``curves/from_step_N/metrics.csv``, one file a start, and the same for TensorBoard
    where that is installed.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    recipe = settings.training
    for name, known in (("precision", ["auto", *PRECISION]), ("schedule", SCHEDULES)):
        if getattr(recipe, name) not in known:
            raise TrainingError(f"training.{name}={getattr(recipe, name)}: expected one of {', '.join(known)}")
    _check_depth(settings)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    lightning.seed_everything(recipe.seed, verbose=False)
    folder = Path(recipe.output)
    newest = folder / "last.ckpt"
    resume = newest if recipe.resume and newest.exists() else None
    begun = _check_same(resume, settings.network, recipe) if resume else 0
    trainer = lightning.Trainer(
        accelerator=recipe.device,
        devices=recipe.devices,
        num_nodes=recipe.nodes,
        precision=_precision(recipe),  # type: ignore[arg-type]
        max_steps=recipe.steps,
        gradient_clip_val=recipe.gradient_clip,
        callbacks=_callbacks(folder, recipe),
        logger=_loggers(folder, f"from_step_{begun}"),
        log_every_n_steps=min(50, recipe.checkpoint_every),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=None,
        val_check_interval=recipe.validate_every,
        limit_val_batches=recipe.validation_batches,
    )
    training = Training(settings.network, recipe)
    if recipe.base:
        _start_from(model_path(recipe.base).with_suffix(".safetensors"), training)
    trainer.fit(training, ckpt_path=resume, weights_only=True)
    if trainer.global_step % recipe.checkpoint_every:
        trainer.save_checkpoint(newest)
    return newest


def _precision(recipe: TrainingSettings) -> str:
    """Lightning's word for what is computed in."""
    if recipe.precision != "auto":
        return PRECISION[recipe.precision]
    gpu = recipe.device != "cpu" and torch.cuda.is_available()
    return PRECISION["bf16" if computes_in_bf16(gpu) else "fp32"]


def load_checkpoint(path: Path) -> tuple[NetworkSettings, TrainingSettings, dict[str, Tensor], int]:
    """Settings, averaged weights of the network and steps taken. Raises TrainingError."""
    if not path.exists():
        raise TrainingError(f"no checkpoint at {path}. Train first: liveloc train training.output={path.parent}")
    raw = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "network."
    weights = {name.removeprefix(prefix): w for name, w in raw["state_dict"].items() if name.startswith(prefix)}
    training = dict(raw["training_settings"])
    training["domain"] = DomainSettings(**training["domain"])
    return NetworkSettings(**raw["network_settings"]), TrainingSettings(**training), weights, raw["global_step"]


def _callbacks(folder: Path, recipe: TrainingSettings) -> list[Callback]:
    newest = ModelCheckpoint(
        folder, filename="last", every_n_train_steps=recipe.checkpoint_every, enable_version_counter=False
    )
    best = ModelCheckpoint(
        folder, filename="best", monitor="efficiency", mode="max", enable_version_counter=False,
        save_on_train_epoch_end=False,
    )  # fmt: skip
    return [newest, best, DrawCurves(folder), *([EMAWeightAveraging(decay=recipe.ema)] if recipe.ema else [])]


def _loggers(folder: Path, version: str) -> list[Logger]:
    """Where the curves go; TensorBoard's only where it is installed."""
    table = CSVLogger(folder, name="curves", version=version)
    return [table, *([TensorBoardLogger(folder, "curves", version)] if find_spec("tensorboard") else [])]


def _start_from(base: Path, training: Training) -> None:
    """Take what fits of a model file's weights, and say what did not. Raises ModelFileInvalid, TrainingError."""
    weights, description = read_weights(base)
    report = transfer(training.network, weights, description.name)
    logger.log(logging.INFO if report.complete else logging.WARNING, "%s", report.words())


def _check_depth(settings: Settings) -> None:
    """Raise TrainingError where a network is to find z and all emitters lie in one plane."""
    low, high = settings.training.domain.depth
    if settings.network.dimensions == 3 and low == high:
        raise TrainingError(
            f"network.dimensions=3 with training.domain.depth=[{low:g},{high:g}]: all emitters lie in one plane, so "
            "there is no z to learn. Give a range and a PSF that depends on z: training.domain.depth=[-400,400] "
            "training.domain.psf=astigmatic, or network.dimensions=2."
        )


def _check_same(checkpoint: Path, network: NetworkSettings, recipe: TrainingSettings) -> int:
    """Steps already taken; refuses a training whose settings were others, save those that only steer this machine."""
    old_network, old_recipe, _, steps = load_checkpoint(checkpoint)
    steering = ("device", "precision", "threads", "output", "checkpoint_every", "resume")
    free = {name: getattr(recipe, name) for name in steering}
    if old_network != network or replace(old_recipe, **free) != recipe:
        raise TrainingError(
            f"{checkpoint} was made with other settings. Give them again, or start anew with "
            f"training.output=ANOTHER_FOLDER or training.resume=false."
        )
    return steps
