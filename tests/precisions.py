"""In what networks can be run here, for tests of each."""

from __future__ import annotations

import pytest

from engine.runtimes.torch_runtime import computes_in_bf16

needs_bf16 = pytest.mark.skipif(not computes_in_bf16(gpu=False), reason="this processor does not compute in bfloat16")
PRECISIONS = ("fp32", pytest.param("bf16", marks=needs_bf16))
