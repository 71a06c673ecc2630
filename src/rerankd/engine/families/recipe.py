"""What every family is asked to load, in one value: a checkpoint, where it shall run, and what the user set for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rerankd.engine.checkpoint import Checkpoint, Progress
from rerankd.engine.devices import Placement
from rerankd.errors import LoadError
from rerankd.types import ModelCard, ScoreKind


@dataclass(frozen=True, slots=True)
class Loading:
    """`score` and `instruction` override the model's own; `prefix_reuse` off is for measuring what it gains."""

    name: str
    source: str
    checkpoint: Checkpoint
    placement: Placement
    progress: Progress
    max_length: int | None = None
    max_query_length: int | None = None
    score: Literal["auto", "probability", "logit"] = "auto"
    instruction: str | None = None
    prefix_reuse: bool = True
    int8: bool = False

    def card(self, family: str, score: ScoreKind, max_length: int, **facts: Any) -> ModelCard:
        """The model's card; `score` is its own scale, unless the user wants another.

        Raises `LoadError` where a cosine is wanted as something else.
        """
        if score == "cosine" and self.score != "auto":
            raise LoadError(
                f"{self.name} answers with a cosine, which has no other scale; leave out score = {self.score}."
            )
        return ModelCard(
            name=self.name,
            family=family,
            score=score if self.score == "auto" else self.score,
            source=self.source,
            device=str(self.placement.device),
            dtype="int8" if self.int8 else self.placement.dtype_name,
            max_length=max_length,
            **facts,
        )
