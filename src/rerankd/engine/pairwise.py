"""Pairwise models: each document is scored with the query alone, in one sequence, or in several windows of which the best
counts.

What a family adds is its encoding (a request to sequences), its runner, and the scale of its scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import exp
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from rerankd.engine.scorer import Prepared, Runner, Scored, Watch
from rerankd.engine.sequences import TokenSequence, distinct
from rerankd.types import ModelCard, RerankRequest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Pairs:
    """For each document its windows, one or more; the indexes of documents of which something was left out."""

    windows: Sequence[Sequence[TokenSequence]]
    truncated: Sequence[int] = ()
    query_truncated: bool = False


Encode = Callable[[RerankRequest], Pairs]
"""Raises `BadRequest` where something would have to be cut and the request forbids it."""


class Pairwise:
    """A Scorer whose runner gives one logit per sequence, a tensor of one element."""

    def __init__(self, card: ModelCard, runner: Runner, encode: Encode) -> None:
        self.card = msgspec.structs.replace(card, logits=True)
        self.runner = runner
        self.encode = encode

    def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
        started = perf_counter()
        pairs = self.encode(request)
        # Equal sequences are computed once, and so get equal scores.
        sequences, spots = distinct(window for windows in pairs.windows for window in windows)
        watch.took("tokenize", started)

        def finish(results: Sequence[torch.Tensor]) -> Scored:
            logits = [float(result) for result in results]
            places = iter(spots)
            best = [max(logits[spot] for spot in islice(places, len(windows))) for windows in pairs.windows]
            scores = best if self._raw(request) else [probability(logit) for logit in best]
            fed = [sum(window.fed for window in windows) for windows in pairs.windows]
            return Scored(scores, sum(fed), pairs.truncated, pairs.query_truncated, pair_tokens=fed)

        return Prepared(sequences, finish)

    def _raw(self, request: RerankRequest) -> bool:
        return self.card.score == "logit" if request.raw_scores is None else request.raw_scores


def probability(logit: float) -> float:
    """The sigmoid in float64, one by one: in float32 it is 1.0 from a logit of 17 on, and torch's rounds by company."""
    return 1 / (1 + exp(-logit)) if logit >= 0 else exp(logit) / (1 + exp(logit))
