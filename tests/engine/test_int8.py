"""Linear layers in 8-bit integers: near the exact product, and the same bits for a row anywhere."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import gelu, linear, silu

from rerankd.engine.int8 import Int8Linear, rounded_rows


def test_integers_come_out_exactly() -> None:
    weight = torch.randint(-127, 128, (32, 64)).float()
    weight[:, 0] = 127  # so that a step of every output is worth 1
    rows = torch.randint(-127, 128, (16, 64)).float()
    rows[:, 1] = -127
    assert torch.equal(Int8Linear(weight, None).product(rows), linear(rows, weight))


def test_codes_hold_a_row_within_half_a_step() -> None:
    rows = torch.randn(20, 50) * torch.logspace(-6, 6, 20).unsqueeze(1)
    codes, step = rounded_rows(rows)
    assert ((codes.float() - 128) * step - rows).abs().div(step).max() <= 0.5001


def test_a_row_of_zeros_stays_zero() -> None:
    made = Int8Linear(torch.randn(32, 64), None).product(torch.zeros(16, 64))
    assert torch.equal(made, torch.zeros(16, 32))


@pytest.mark.parametrize(("name", "function"), [("none", lambda x: x), ("gelu", gelu), ("swish", silu)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_near_the_exact_product(name: str, function: object, dtype: torch.dtype) -> None:
    weight, bias, rows = torch.randn(96, 128) / 11, torch.randn(96), torch.randn(64, 128)
    made = Int8Linear(weight.to(dtype), bias.to(dtype), name).product(rows.to(dtype))  # type: ignore[arg-type]
    assert made.dtype == dtype
    assert (made.float() - function(linear(rows, weight, bias))).abs().max() < 0.06  # type: ignore[operator]


@pytest.mark.parametrize("how", ["add", "mul"])
def test_it_combines_with_another(how: str) -> None:
    weight, rows, other = torch.randn(96, 128) / 11, torch.randn(64, 128), torch.randn(64, 96)
    made = Int8Linear(weight, None, combine=how).combined(rows, other)  # type: ignore[arg-type]
    product = linear(rows, weight)
    expected = product + other if how == "add" else product * other
    assert (made - expected).abs().max() < 0.15


def test_a_row_has_the_same_bits_anywhere() -> None:
    layer = Int8Linear(torch.randn(96, 128).bfloat16(), torch.randn(96).bfloat16(), "gelu")
    rows = torch.randn(700, 128).bfloat16()
    whole = layer(rows)
    assert torch.equal(whole[3:4], layer(rows[3:4]))
    assert torch.equal(whole[600:650], layer(rows[600:650]))
