"""Linear layers that give a row the same bits whatever rows surround it, with weights laid out once for oneDNN.

oneDNN picks its kernel by the number of rows, and another kernel may add in another order. Here a product is made in tiles
of TILE rows; a last, smaller tile is filled up to the next height whose kernel was seen, when the layer was made, to give
the bits of a whole tile. Plain `F.linear` reorders bfloat16 weights each time it runs, and in float32 goes to MKL, which is
slow on processors that are not Intel's: docs/performance.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn

TILE = 512
HEIGHTS = (16, 32, 64, 128, 256)
"""Heights to try below TILE. One row alone is a product with a vector, which adds in another order."""
WHOLE = (1024, 1536, 2048, 3072, 4096)
"""Heights to try above it, which save the joining of tiles."""
PREPACKED_DTYPES = (torch.float32, torch.bfloat16)

Activation = Literal["none", "gelu", "gelu_tanh", "swish", "relu", "tanh"]
"""What oneDNN can do with a product before it is rounded: `gelu` is the erf form, `swish` is SiLU."""
Combine = Literal["add", "mul"]

_heights: dict[tuple[int, int, torch.dtype, str, int], tuple[int, ...]] = {}
"""The heights that give equal bits, for each shape, number format, activation and number of threads seen so far."""


class TiledLinear(nn.Module):
    """`activation(x @ weight.T + bias)` for x of [..., in_features]; with `combine`, also what `combined` does."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        activation: Activation = "none",
        combine: Combine | None = None,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._dtype = weight.dtype
        self._combine = combine
        self._pack(weight.detach().contiguous(), None if bias is None else bias.detach(), activation)
        self.heights = self._equal_heights(activation)

    def _pack(self, weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation) -> None:
        """Lay the weights out. They become plain attributes: an opaque oneDNN tensor cannot be a parameter or moved."""
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, TILE)
        self._bias = bias
        self._kind = "gelu" if activation == "gelu_tanh" else activation
        self._algorithm = {"gelu": "none", "gelu_tanh": "tanh"}.get(activation, "")

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        flat = rows.reshape(-1, self.in_features)
        return self._tiled(flat).view(*rows.shape[:-1], self.out_features)

    def combined(self, rows: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product added to, or multiplied with, `other` before it is rounded; [height, out_features]."""
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            rows, other, self._weight, self._bias, self._combine
        )
        return made

    def height(self, rows: int) -> int:
        """The least number of rows, from `rows` up, that one product can be made of."""
        return next((height for height in self.heights if height >= rows), rows)

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """One product for rows [height, in_features], [height, out_features]."""
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._weight, self._bias, self._kind, [], self._algorithm
        )
        return made

    def _tiled(self, rows: torch.Tensor) -> torch.Tensor:
        count = len(rows)
        if count in self.heights:
            return self.product(rows)
        if count < TILE:
            return self.product(filled(rows, self.height(count)))[:count]
        parts = [self.product(rows[start : start + TILE]) for start in range(0, count - count % TILE, TILE)]
        if count % TILE:
            parts.append(self._tiled(rows[count - count % TILE :]))
        return torch.cat(parts)

    def _equal_heights(self, activation: str) -> tuple[int, ...]:
        key = (
            self.out_features,
            self.in_features,
            self._dtype,
            f"{activation} {self._combine}",
            torch.get_num_threads(),
        )
        if key not in _heights:
            _heights[key] = self._seen_equal()
        return _heights[key]

    def _seen_equal(self) -> tuple[int, ...]:
        """The heights whose products are those of tiles, bit for bit, on rows made to show any other order of adding."""
        rows = telling_rows(max(WHOLE), self.in_features, self._dtype)
        other = telling_rows(max(WHOLE), self.out_features, self._dtype)

        def made(height: int, count: int) -> torch.Tensor:
            parts = [slice(at, at + height) for at in range(0, count, height)]
            if self._combine is None:
                return torch.cat([self.product(rows[part]) for part in parts])
            return torch.cat([self.combined(rows[part], other[part]) for part in parts])

        tiles = made(TILE, max(WHOLE))
        low = [height for height in HEIGHTS if torch.equal(made(height, TILE), tiles[:TILE])]
        high = [height for height in WHOLE if torch.equal(made(height, height), tiles[:height])]
        return (*low, TILE, *high)


def telling_rows(count: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Random rows of very uneven magnitudes, whose sums come out otherwise when they are added in another order."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(count, width, generator=generator)
    return (rows * torch.exp(2 * torch.randn(count, width, generator=generator))).to(dtype)


def filled(rows: torch.Tensor, height: int) -> torch.Tensor:
    """`rows` with rows of zeros behind them up to `height`."""
    padded = rows.new_zeros(height, rows.shape[1])
    padded[: len(rows)] = rows
    return padded


def in_tiles(rows: torch.Tensor, heights: Sequence[int]) -> Iterator[tuple[slice, torch.Tensor]]:
    """`rows` in tiles, each with its place; the last one filled up to a whole tile or to one of the `heights` below it."""
    for start in range(0, len(rows), TILE):
        part = rows[start : start + TILE]
        height = next((height for height in heights if height >= len(part)), TILE)
        yield slice(start, start + len(part)), part if len(part) == height else filled(part, height)


def available() -> bool:
    ops: Any = torch.ops.mkldnn
    return torch.backends.mkldnn.is_available() and hasattr(ops, "_linear_pointwise")


def tile_linears(model: nn.Module) -> None:
    """Put a `TiledLinear` in the place of every `nn.Linear` that oneDNN can do, on a CPU, and fuse the GELUs behind them."""
    if not available():
        return
    for module in list(model.modules()):
        fuse = _ends_in_erf_gelu(module)
        for name, child in module.named_children():
            if type(child) is nn.Linear and prepackable(child):
                setattr(
                    module, name, TiledLinear(child.weight, child.bias, "gelu" if fuse and name == "dense" else "none")
                )
        if fuse:
            module.intermediate_act_fn = nn.Identity()


def _ends_in_erf_gelu(module: nn.Module) -> bool:
    """BERT's and XLM-R's first MLP half: `dense`, then `intermediate_act_fn`."""
    activation = getattr(module, "intermediate_act_fn", None)
    dense = getattr(module, "dense", None)
    return is_erf_gelu(activation) and isinstance(dense, nn.Linear) and prepackable(dense)


def prepackable(linear: nn.Linear) -> bool:
    return linear.weight.dtype in PREPACKED_DTYPES and linear.weight.device.type == "cpu"


def is_erf_gelu(activation: object) -> bool:
    return type(activation).__name__ == "GELUActivation" and getattr(activation, "act", None) is nn.functional.gelu
