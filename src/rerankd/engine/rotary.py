"""Tables of rotary position embeddings, made in blocks of fixed length: a position's numbers never depend on its company."""

from __future__ import annotations

from typing import Any

import torch

LENGTH = 2048


class RotaryTable:
    """cos and sin [positions, head_dim] in float32, as `rotary`, transformers' own module, gives them."""

    def __init__(self, rotary: Any) -> None:
        self._rotary = rotary
        self._cos = torch.empty(0)
        self._sin = torch.empty(0)

    def at(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin for `positions` [rows], each [rows, head_dim]."""
        wanted = int(positions.max()) + 1
        while len(self._cos) < wanted:
            self._grow()
        return self._cos[positions], self._sin[positions]

    def _grow(self) -> None:
        start = len(self._cos)
        cos, sin = self._rotary(torch.empty(0), torch.arange(start, start + LENGTH).unsqueeze(0))
        self._cos = torch.cat([self._cos.view(-1, cos.shape[-1]), cos[0].float()])
        self._sin = torch.cat([self._sin.view(-1, sin.shape[-1]), sin[0].float()])
