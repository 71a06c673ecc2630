from __future__ import annotations

import pytest
import torch
from torch import nn

from rerankd.engine.linear import PrepackedLinear, prepack


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_a_prepacked_layer_gives_what_the_plain_one_gives(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(48, 80, bias=bias).requires_grad_(False)
    x = torch.randn(1, rows, 48)
    with torch.inference_mode():
        assert torch.allclose(PrepackedLinear(plain)(x), plain(x), atol=1e-5)
        fused = PrepackedLinear(plain, "gelu")(x)
        assert torch.allclose(fused, nn.functional.gelu(plain(x)), atol=1e-5)
        tanh = nn.functional.gelu(plain(x), approximate="tanh")
        assert not torch.allclose(fused, tanh, atol=1e-5), "the erf form and its approximation must be told apart"


def test_prepacking_reaches_every_linear_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh())).requires_grad_(False)
    prepack(model)
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
