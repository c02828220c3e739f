"""What a network costs, counted: arithmetic and memory of each of its stages, for a pixel of a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from models.bench.facts import Cost
from models.layers import AS_THEY_ARE
from models.network import EmitterMap, Network
from models.streaming import detect

DENSITY = 0.01
"""Emitters in a pixel of a frame that detection is counted with: 1 /µm² at 100 nm pixels."""


def count(network: Network, frames: int, size: int) -> dict[str, Cost]:
    """Costs of the stages for a call of ``frames`` frames of ``size`` × ``size`` pixels after a full rolling buffer."""
    pixels = frames * size**2
    return {name: _counted(network, name, work, given, pixels) for name, work, given in _stages(network, frames, size)}


def _stages(network: Network, frames: int, size: int) -> Iterator[tuple[str, Callable[[], Any], list[Tensor]]]:
    """Name, work and input of each stage, worked off as StreamStep does it."""
    device = next(network.parameters()).device
    past, future = network.context
    photons = torch.full((frames, size, size), 20.0, device=device)
    with torch.inference_mode():
        sequence = network.encode(torch.full((past + future + frames, size, size), 20.0, device=device))
        valid = torch.ones(len(sequence), dtype=torch.bool, device=device)
        seen = network.attend(sequence[None], valid, past, frames)
        maps = network.decode(seen, size, size)
    yield "encode", lambda: network.encode(photons), [photons]
    yield "attend", lambda: network.attend(sequence[None], valid, past, frames), [sequence]
    yield "decode", lambda: network.decode(seen, size, size), [seen]
    spotted = spotted_maps(maps)
    exists = valid[past : past + frames, None, None]
    yield "detect", lambda: detect(spotted, exists, torch.tensor(0.5, device=device)), list(vars(spotted).values())


def spotted_maps(maps: EmitterMap) -> EmitterMap:
    """Maps with as many emitters as DENSITY says, for what detection gathers depends on it."""
    logit = torch.full_like(maps.logit, -8.0)
    every = round(DENSITY**-0.5)
    logit[:, every // 2 :: every, every // 2 :: every] = 4.0
    return type(maps)(**{**vars(maps), "logit": logit})


def _counted(network: Network, name: str, work: Callable[[], Any], given: list[Tensor], pixels: int) -> Cost:
    traffic, used = _Traffic(), {id(parameter) for parameter in network.parameters()}
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=_EXTRA) as flops, traffic:
        token = AS_THEY_ARE.set(True)
        try:
            result = work()
        finally:
            AS_THEY_ARE.reset(token)
    weights = sum(_bytes(one) for one in network.parameters() if id(one) in used & traffic.read)
    moved = sum(map(_bytes, given)) + sum(map(_bytes, _tensors(vars(result) if name == "decode" else result)))
    least = (moved + weights) / pixels
    return Cost(flops.get_total_flops() / pixels, least, traffic.bytes / pixels, traffic.operations)


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Of a processor's fused attention, which torch's own counter leaves out; shapes (B, heads, length, channels)."""
    return int(sdpa_flop(query, key, value))


_EXTRA: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}  # noqa: SLF001


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what operations read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.operations = 0
        self.read: set[int] = set()
        """Identities of the tensors that were given to an operation."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for each operation."""
        result = func(*args, **(kwargs or {}))
        given, made = _tensors((args, kwargs)), _tensors(result)
        self.read |= set(map(id, given))
        if func._schema.is_mutable or not _is_view(given, made):  # noqa: SLF001 (torch's own way to tell)
            self.operations += 1
            self.bytes += sum(map(_bytes, given)) + sum(map(_bytes, made))
        return result


def _is_view(given: list[Tensor], made: list[Tensor]) -> bool:
    """Whether nothing was computed: each result looks at memory that was there."""
    there = {one.untyped_storage().data_ptr() for one in given}
    return all(one.untyped_storage().data_ptr() in there for one in made)


def _tensors(values: Any) -> list[Tensor]:
    return [one for one in tree_flatten(values)[0] if isinstance(one, Tensor)]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
