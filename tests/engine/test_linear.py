from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, silu
from transformers import BertConfig, BertModel
from transformers.activations import ACT2FN

from rerankd.engine.linear import HEIGHTS, TILE, Activation, TiledLinear, available, in_tiles, is_erf_gelu, tile_linears

pytestmark = pytest.mark.skipif(not available(), reason="torch has no oneDNN here")

ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda rows: rows,
    "gelu": gelu,
    "gelu_tanh": lambda rows: gelu(rows, approximate="tanh"),
    "swish": silu,
    "relu": torch.relu,
    "tanh": torch.tanh,
}


@pytest.fixture(autouse=True)
def _inference() -> object:
    with torch.inference_mode():
        yield


def plain(bias: bool = True, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(48, 80, bias=bias).requires_grad_(False).to(dtype)


@pytest.mark.parametrize("rows", [1, 7, 300, 512, 700, 2049])
@pytest.mark.parametrize("bias", [True, False])
def test_a_tiled_layer_gives_what_the_plain_one_gives(rows: int, bias: bool) -> None:
    linear = plain(bias)
    x = torch.randn(1, rows, 48)
    assert torch.allclose(TiledLinear(linear.weight, linear.bias)(x), linear(x), atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_torch(activation: Activation) -> None:
    linear = plain()
    x = torch.randn(40, 48)
    made = TiledLinear(linear.weight, linear.bias, activation)(x)
    assert torch.allclose(made, ACTIVATIONS[activation](linear(x)), atol=1e-5)


def test_the_two_forms_of_gelu_are_told_apart() -> None:
    linear = plain()
    x = torch.randn(40, 48)
    made = TiledLinear(linear.weight, linear.bias, "gelu")(x)
    assert not torch.allclose(made, gelu(linear(x), approximate="tanh"), atol=1e-5)


def test_another_tensor_is_added_or_multiplied_before_rounding() -> None:
    linear = plain(dtype=torch.bfloat16)
    x, other = torch.randn(16, 48).bfloat16(), torch.randn(16, 80).bfloat16()
    exact = x.double() @ linear.weight.double().t() + linear.bias.double()
    added = TiledLinear(linear.weight, linear.bias, combine="add").combined(x, other)
    assert torch.allclose(added.double(), (exact + other.double()), rtol=1 / 256, atol=1e-3)
    multiplied = TiledLinear(linear.weight, linear.bias, combine="mul").combined(x, other)
    assert torch.allclose(multiplied.double(), exact * other.double(), rtol=1 / 256, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["none", "gelu", "swish"])
def test_a_row_gets_the_same_bits_whatever_rows_surround_it(activation: Activation, dtype: torch.dtype) -> None:
    linear = plain(dtype=dtype)
    tiled = TiledLinear(linear.weight, linear.bias, activation)
    x = torch.randn(2049, 48).to(dtype)
    whole = tiled(x)
    for start, stop in ((0, 1), (1, 2), (511, 513), (100, 117), (3, 303), (0, 1024), (5, 1541), (2000, 2049)):
        assert torch.equal(tiled(x[start:stop]), whole[start:stop]), (start, stop)


def test_rows_are_taken_in_tiles_and_the_last_is_filled_up() -> None:
    x = torch.arange(600.0).unsqueeze(1)
    (first, whole), (second, rest) = in_tiles(x, HEIGHTS)
    assert (first, second) == (slice(0, TILE), slice(TILE, 600))
    assert torch.equal(whole, x[:TILE])
    assert len(rest) == 128
    assert torch.equal(rest[:88], x[TILE:])
    assert not rest[88:].any()


def test_every_linear_layer_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh())).requires_grad_(False)
    tile_linears(model)
    assert sum(isinstance(module, TiledLinear) for module in model.modules()) == 2
    assert not any(isinstance(module, nn.Linear) for module in model.modules())


def test_what_onednn_cannot_lay_out_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4, dtype=torch.float16), nn.Linear(4, 4, device="meta")).requires_grad_(False)
    tile_linears(model)
    assert all(isinstance(module, nn.Linear) for module in model)


def test_the_gelu_behind_a_layer_goes_into_it() -> None:
    config = BertConfig(vocab_size=9, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    torch.manual_seed(0)
    model = BertModel(config).eval().requires_grad_(False)
    ids = torch.tensor([[1, 2, 3]])
    expected = model(ids).last_hidden_state
    tile_linears(model)
    assert isinstance(model.encoder.layer[0].intermediate.intermediate_act_fn, nn.Identity)
    assert torch.allclose(model(ids).last_hidden_state, expected, atol=1e-5)


def test_only_the_exact_gelu_counts_as_one() -> None:
    assert is_erf_gelu(ACT2FN["gelu"])
    assert not any(is_erf_gelu(ACT2FN[name]) for name in ("gelu_new", "gelu_pytorch_tanh", "silu", "relu"))
