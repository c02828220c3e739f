"""Convolutions in one pass over memory give what the same steps one by one give."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from models.layers import ONE_PASS, TemporalAttention, convolved, linear
from tests.precisions import needs_bf16

CASES = [(7, 24, 3, 1), (16, 16, 3, 1), (12, 20, 3, 2), (8, 5, 1, 1), (4, 6, 2, 2)]
"""Channels in and out, size of the kernel, stride."""


def of_case(case: tuple[int, int, int, int]) -> tuple[nn.Conv2d, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    inputs, outputs, size, stride = case
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2 if size == 3 else 0)
    x = torch.randn(3, inputs, 18, 14)
    return conv, x, torch.randn_like(conv(x))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_one_pass_is_the_steps_one_by_one(
    case: tuple[int, int, int, int], adds: bool, relu: bool, form: torch.memory_format
) -> None:
    conv, x, other = of_case(case)
    expected = conv(x) + other if adds else conv(x)
    expected = functional.relu(expected) if relu else expected
    conv, x = conv.to(memory_format=form), x.to(memory_format=form)  # type: ignore[call-overload]
    for mode in (torch.inference_mode(), torch.no_grad(), torch.enable_grad()):
        with mode:
            found = convolved(conv, x, other if adds else None, relu)
        assert torch.allclose(found, expected, atol=1e-5)


@needs_bf16
@pytest.mark.skipif(ONE_PASS is None, reason="this torch has no oneDNN")
@pytest.mark.parametrize("size", [18, 1])
def test_under_autocast_it_computes_in_the_lower_precision_and_rounds_once(size: int) -> None:
    conv, *tensors = of_case(CASES[1])
    x, other = (one[..., :size, :size] for one in tensors)
    expected = functional.relu(conv(x) + other)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = convolved(conv, x, other, relu=True)
        assert found.dtype == torch.bfloat16
        assert torch.allclose(found.float(), expected, atol=0.05)
        with torch.autocast("cpu", enabled=False):
            assert torch.allclose(convolved(conv, x, other, relu=True), expected, atol=1e-5)


@pytest.mark.parametrize("adds", [False, True])
def test_its_arithmetic_is_counted(adds: bool) -> None:
    counted = []
    for mode in (torch.inference_mode(), torch.no_grad()):
        conv, x, other = of_case(CASES[2])
        with mode, FlopCounterMode(display=False) as counter:
            convolved(conv, x, other if adds else None, relu=True)
        counted.append(counter.get_total_flops())
    assert counted == [2 * 3 * 20 * 9 * 7 * 12 * 9] * 2


def test_gradients_flow() -> None:
    conv, x, other = of_case(CASES[1])
    expected = torch.autograd.grad(functional.relu(conv(x) + other).sum(), conv.weight)
    found = torch.autograd.grad(convolved(conv, x, other, relu=True).sum(), conv.weight)
    assert torch.allclose(found[0], expected[0])


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 4, 12)])
def test_a_matrix_product_in_one_pass_is_the_steps_one_by_one(relu: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(12, 20), torch.randn(shape)
    expected = functional.relu(layer(x)) if relu else layer(x)
    for mode in (torch.inference_mode(), torch.no_grad()):
        with mode, FlopCounterMode(display=False) as counter:
            assert torch.allclose(linear(layer, x, relu), expected, atol=1e-5)
        assert counter.get_total_flops() == 2 * x.numel() * 20


@pytest.mark.parametrize(("past", "future", "count"), [(4, 4, 16), (1, 1, 8), (2, 0, 24), (0, 0, 16), (4, 4, 3)])
def test_attention_in_blocks_is_attention(past: int, future: int, count: int) -> None:
    torch.manual_seed(0)
    attention = TemporalAttention(8, 2, past, future)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, past + count + future, 3, 5, 8)
    valid = torch.rand(x.shape[1]) < 0.8
    exists = valid[past : past + count]
    with torch.no_grad():  # the fused kernel
        expected = attention(x, valid, past, count)[:, exists]
    with torch.inference_mode():
        found = attention(x, valid, past, count)[:, exists]
    assert torch.allclose(found, expected, atol=1e-5)
