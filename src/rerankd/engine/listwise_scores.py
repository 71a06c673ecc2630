"""Scores over several prompts: each block has seen the query in other company, and their queries are averaged.

    Q = sum(w q) / sum(w),   w = max over a block's documents of (1 + cos(q, d)) / 2,   score = cos(Q, d)

q and d are raw, so a block whose query vector is longer counts more (../shared/reference/models.md, 1.9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TINY = 1e-30
"""Keeps a vector of zeros from being divided by its length."""


def scores(blocks: Sequence[torch.Tensor]) -> list[float]:
    """Cosines of all documents, in order; a block holds its documents' vectors, then its query's, [documents + 1, width]."""
    import torch

    weights = torch.stack([_weight(block) for block in blocks])
    queries = torch.stack([block[-1].float() for block in blocks])
    query = (queries * weights.unsqueeze(1)).sum(0) / weights.sum().clamp_min(TINY)
    documents = torch.cat([block[:-1].float() for block in blocks])
    lengths = (query.norm() * documents.norm(dim=1)).clamp_min(TINY)
    found: list[float] = (documents @ query / lengths).tolist()
    return found


def _weight(block: torch.Tensor) -> torch.Tensor:
    """What a block's query counts, in float32; the cosines are those of the model's own number format."""
    import torch

    cosines = torch.nn.functional.cosine_similarity(block[:-1], block[-1:], dim=1)
    return ((1 + cosines.float()) / 2).max()
