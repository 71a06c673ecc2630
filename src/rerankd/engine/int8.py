"""Linear layers in 8-bit integers: weights rounded once, one scale an output; activations as they come, one scale a row.

A row's scale is its own, so its numbers do not depend on its company. The product is exact in integers (oneDNN, u8 times s8,
AVX512-VNNI or AMX); what is lost is lost in the rounding: 127 steps from zero to the largest number of a row. Symmetric
per-channel weights and per-token activations are those of LLM.int8() (Dettmers et al. 2022, section 2.1), without its
outliers.
"""

from __future__ import annotations

import torch
from torch.nn.functional import gelu, silu

from rerankd.engine.linear import Activation, TiledLinear
from rerankd.errors import LoadError

LARGEST = 127
ZERO_POINT = 128
ROWS = 128
"""Rows that are taken through product, scales and activation at a time, while their float32 numbers are in cache."""

_ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": lambda rows: gelu(rows, approximate="tanh"),
    "swish": silu,
    "relu": torch.relu,
    "tanh": torch.tanh,
}


class Int8Linear(TiledLinear):
    """As `TiledLinear`, in the input's own number format, with the product in integers."""

    def _pack(self, weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation) -> None:
        wide = weight.float()
        scales = wide.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
        self._codes = torch.ops.onednn.qlinear_prepack((wide / scales.unsqueeze(1)).round().to(torch.int8), None)
        self._scales = scales
        self._zeros = torch.zeros(len(scales), dtype=torch.int32)
        self._offsets = torch.zeros(len(scales)) if bias is None else bias.float()
        self._activation = _ACTIVATIONS.get(activation)

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._made(part).to(self._dtype) for part in rows.split(ROWS)])

    def combined(self, rows: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        parts = zip(rows.split(ROWS), other.split(ROWS), strict=True)
        if self._combine == "mul":
            return torch.cat([self._made(part).mul_(beside).to(self._dtype) for part, beside in parts])
        return torch.cat([self._made(part).add_(beside).to(self._dtype) for part, beside in parts])

    def _made(self, rows: torch.Tensor) -> torch.Tensor:
        """The product of a part of a tile in float32."""
        codes, scale = rounded_rows(rows)
        made = torch.ops.onednn.qlinear_pointwise(
            codes,
            1.0,
            ZERO_POINT,
            self._codes,
            self._scales,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        scaled = torch.addcmul(self._offsets, made, scale, out=made)
        return scaled if self._activation is None else self._activation(scaled)


def rounded_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row as unsigned bytes around ZERO_POINT, and what one step of it is worth, [rows, 1]."""
    wide = rows.float()
    largest = wide.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny)
    codes = (wide * (LARGEST / largest)).round_().to(torch.int8)
    return codes.view(torch.uint8).bitwise_xor_(ZERO_POINT), largest / LARGEST


def linear_class(int8: bool) -> type[TiledLinear]:
    return Int8Linear if int8 else TiledLinear


def no_int8() -> LoadError:
    return LoadError(
        "quantization = int8 is for BERT, XLM-RoBERTa, Qwen2 and Qwen3 models on a CPU with oneDNN; leave it out here."
    )
