"""The graph of a model file: new frames and what earlier ones left behind in, rows of localisations out.

The sequence inside one call is the state of S = past + future earlier frames followed by the T new ones. The frames
that are answered are the T that have their whole future now: numbers past … past + T − 1 of the sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention_unet import AttentionUNet, EmitterMap


class StreamStep(nn.Module):
    """One call of a streaming model. Torch and ONNX runtimes run this same graph."""

    def __init__(self, network: AttentionUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, photons: Tensor, state: Tensor, valid: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, 9) in the order of ROW_COLUMNS, and the next state.

        ``photons`` (T, H, W); ``state`` (S, C, ⌈H/2⌉, ⌈W/2⌉); ``valid`` (S + T,) bool, which frames of the sequence
        exist; ``threshold`` () smallest probability of a row. Rows are sorted by frame, then y, then x.
        """
        count, height, width = photons.shape
        sequence = torch.cat([state, self.network.encode(photons)])
        past = self.network.settings.past
        maps = self.network.decode(self.network.attend(sequence[None], valid, past, count), height, width)
        exists = valid[past : past + count, None, None]
        return detect(maps, exists, threshold), sequence[count:]


def detect(maps: EmitterMap, exists: Tensor, threshold: Tensor) -> Tensor:
    """Rows (N, 9) of the local maxima of the reported probability; maps are (T, H, W), ``exists`` broadcasts.

    An emitter near a corner is shared by at most the four pixels that meet there, so what counts is the largest sum
    over the four 2×2 squares that a pixel belongs to; a row stands where a pixel is the largest of its nine.
    """
    probability = (torch.sigmoid(maps.logit) * exists)[:, None]
    squares = 4 * functional.avg_pool2d(functional.pad(probability, (1, 1, 1, 1)), 2, 1)
    shared = functional.max_pool2d(squares, 2, 1)[:, 0]
    largest = functional.max_pool2d(probability, 3, 1, 1)
    found = ((probability >= largest)[:, 0] & (shared > threshold)).nonzero()
    frame, row, column = found.unbind(1)

    def at(values: Tensor) -> Tensor:
        return values[frame, row, column]

    columns = (
        frame.float(),
        column + 0.5 + at(maps.dx),
        row + 0.5 + at(maps.dy),
        at(maps.photons),
        at(maps.background),
        at(maps.sigma_x),
        at(maps.sigma_y),
        at(maps.sigma_photons),
        at(shared).clamp(max=1.0),
    )
    return torch.stack(columns, 1)
