"""Vectors of texts: their cosines, and themselves as Python's numbers where somebody asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import torch


class Vectors(Sequence[tuple[float, ...]]):
    """Vectors as tuples of Python's numbers, made only where somebody asks for them."""

    def __init__(self, vectors: Sequence[torch.Tensor]) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    @overload
    def __getitem__(self, index: int) -> tuple[float, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[float, ...]]: ...

    def __getitem__(self, index: int | slice) -> tuple[float, ...] | Sequence[tuple[float, ...]]:
        return Vectors(self._vectors[index]) if isinstance(index, slice) else tuple(self._vectors[index].tolist())


def cosines(vectors: Sequence[torch.Tensor], asked: torch.Tensor) -> list[float]:
    """The dot product of each unit vector with `asked`, in float64, each computed alike whatever its company."""
    import torch

    other = asked.double()
    return [float(torch.dot(vector.double(), other)) for vector in vectors]
