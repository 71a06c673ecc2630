"""A model from a folder, asked here and now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerankd.engine.loading import ModelSpec, load_scorer
from rerankd.engine.scorer import Scored, Scorer, Watch, score
from rerankd.engine.sequences import TokenSequence
from rerankd.types import Document, RerankRequest


def load(folder: Path, dtype: str = "float32", **settings: Any) -> Scorer:
    return load_scorer(ModelSpec("tiny", str(folder), "cpu", dtype, **settings), lambda *_: None)


def ask(scorer: Scorer, query: str, documents: Sequence[str], **options: Any) -> Scored:
    return score(scorer, request(query, documents, **options))


def fed(scorer: Scorer, query: str, documents: Sequence[str], **options: Any) -> Sequence[TokenSequence]:
    """The sequences that the model is fed, equal ones once."""
    return scorer.prepare(request(query, documents, **options), Watch()).sequences


def request(query: str, documents: Sequence[str], **options: Any) -> RerankRequest:
    return RerankRequest(query=query, documents=tuple(map(Document, documents)), **options)
