"""Linear layers whose weights are laid out once for oneDNN, instead of at every call.

Measured in docs/performance.md: plain `F.linear` reorders bfloat16 weights each time it runs, and in float32 goes to MKL,
which is slow on processors that are not Intel's. The erf-GELU of an encoder's first MLP layer is fused into the product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

ROWS_HINT = 512
PREPACKED_DTYPES = (torch.float32, torch.bfloat16)


class PrepackedLinear(nn.Module):
    """`activation(x @ weight.T + bias)` for x of [..., in_features]; `activation` is "none" or "gelu" (the erf form)."""

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        # A plain attribute: an opaque oneDNN tensor cannot be a parameter, moved or saved.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS_HINT)
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._activation = activation

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._weight, self._bias, self._activation, [], "none" if self._activation == "gelu" else ""
        )
        return product


def prepack(model: nn.Module) -> None:
    """Put `PrepackedLinear` in the place of every `nn.Linear` where oneDNN can do it, and fuse the GELUs behind them."""
    if not _available():
        return
    for module in list(model.modules()):
        fuse = _ends_in_erf_gelu(module)
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and child.weight.dtype in PREPACKED_DTYPES:
                setattr(module, name, PrepackedLinear(child, "gelu" if fuse and name == "dense" else "none"))
        if fuse:
            module.intermediate_act_fn = nn.Identity()


def _available() -> bool:
    ops: Any = torch.ops.mkldnn
    return torch.backends.mkldnn.is_available() and hasattr(ops, "_linear_pointwise")


def _ends_in_erf_gelu(module: nn.Module) -> bool:
    """BERT's and XLM-R's first MLP half: `dense`, then `intermediate_act_fn`."""
    activation = getattr(module, "intermediate_act_fn", None)
    dense = getattr(module, "dense", None)
    exact = type(activation).__name__ == "GELUActivation" and getattr(activation, "act", None) is nn.functional.gelu
    return exact and isinstance(dense, nn.Linear) and dense.weight.dtype in PREPACKED_DTYPES
