"""A local model as a Reranker: let in, prepared beside the event loop, computed on its device, put into an answer.

Results come in document order; ordering, cutting and documents are `validate`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, isfinite
from time import perf_counter
from typing import TYPE_CHECKING

from rerankd.engine import memory
from rerankd.engine.admission import Rate, Ticket, estimated_cost
from rerankd.engine.job import Job
from rerankd.engine.scheduler import Device
from rerankd.engine.scorer import Scored, Scorer, Watch
from rerankd.errors import EngineError, Overloaded, RerankError
from rerankd.types import LOCAL, Call, ModelCard, RerankRequest, RerankResponse, Result, Usage

if TYPE_CHECKING:
    import torch

    Finish = Callable[[Sequence[torch.Tensor]], Scored]

log = logging.getLogger("rerankd.engine")

LARGE = 16_384.0
"""The cost from which on a request's texts are handled apart from those of smaller ones."""

TOKENS_OF_A_CHUNK, CHUNKS_OF_A_SEARCH_UNIT = 500, 100
"""Cohere's: a longer document, its query included, counts as several (docs.cohere.com, "How does Cohere's pricing work")."""


class LocalReranker:
    """`rate` is what the model was measured to do when it was loaded."""

    def __init__(self, scorer: Scorer, device: Device, rate: Rate) -> None:
        self._scorer = scorer
        self._device = device
        self._rate = rate

    @property
    def card(self) -> ModelCard:
        return self._scorer.card

    @property
    def trouble(self) -> str | None:
        """What keeps the model from working, or None."""
        return self._device.trouble

    @property
    def batch_tokens(self) -> int | None:
        """Tokens computed at a time; None for a model that computes none."""
        return None if self._scorer.runner is None else self._scorer.runner.batch_tokens

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `Overloaded` before any work where the request would wait for too long."""
        watch = Watch(deadline=call.deadline)
        cost = estimated_cost(request, self.card.max_length)
        with self._device.admission.enter(cost, self._rate, call.deadline) as ticket:
            try:
                scored = await self._scored(request, ticket, watch)
            except asyncio.CancelledError:
                watch.abandon()
                raise
            except RerankError:
                raise
            except Exception as cause:
                raise self._failure(cause, call.request_id) from cause
        self._check(scored, call.request_id)
        for stage, milliseconds in watch.timings.items():
            call.notes.took(stage, milliseconds, watch.began[stage])
        call.notes.channel = LOCAL
        return RerankResponse(
            model=self.card.name,
            results=self._results(scored, request.return_embeddings),
            usage=Usage(prompt_tokens=scored.tokens, search_units=_search_units(scored)),
            warnings=self._warnings(scored, request),
        )

    async def _scored(self, request: RerankRequest, ticket: Ticket, watch: Watch) -> Scored:
        large = ticket.left >= LARGE
        beside = self._device.beside
        finish, job = await beside.run(partial(self._prepare, request, ticket, watch, perf_counter()), large=large)
        if job is None:
            return await beside.run(partial(finish, []), large=large)
        running = self._device.run(job, request.priority)
        del job  # as in there: an error's frames must not hold it
        return await beside.run(partial(finish, await running), large=large)

    def _prepare(
        self, request: RerankRequest, ticket: Ticket, watch: Watch, queued: float
    ) -> tuple[Finish, Job | None]:
        watch.took("queue", queued)
        watch.check()
        prepared = self._scorer.prepare(request, watch)
        runner = self._scorer.runner
        if runner is None or not prepared.sequences:
            return prepared.finish, None
        return prepared.finish, Job(runner, prepared.sequences, watch, ticket)

    def _failure(self, cause: Exception, request_id: str) -> RerankError:
        if memory.lacking(cause):
            log.warning("model %s found no memory for request %s", self.card.name, request_id)
            return Overloaded("There is no memory for this request now.", retry_after=memory.LATER)
        log.error("model %s failed on request %s", self.card.name, request_id, exc_info=cause)
        return EngineError(f"The model failed on this request; the server's log has it as {request_id}.")

    def _check(self, scored: Scored, request_id: str) -> None:
        if not all(isfinite(score) for score in scored.scores):
            log.error("model %s gave a score that is not finite on request %s", self.card.name, request_id)
            raise EngineError(f"The model gave a score that is no number; the server's log has it as {request_id}.")

    def _results(self, scored: Scored, return_embeddings: bool) -> tuple[Result, ...]:
        if return_embeddings and scored.embeddings is not None:
            pairs = zip(scored.scores, scored.embeddings, strict=True)
            return tuple(Result(index, score, None, vector) for index, (score, vector) in enumerate(pairs))
        return tuple(Result(index, score) for index, score in enumerate(scored.scores))

    def _warnings(self, scored: Scored, request: RerankRequest) -> tuple[str, ...]:
        warnings = list(scored.warnings)
        if scored.truncated:
            named = ", ".join(map(str, scored.truncated[:10])) + (", ..." if len(scored.truncated) > 10 else "")
            count = f"{len(scored.truncated)} of {len(request.documents)} documents"
            warnings.append(f"{count} cut to {self._limit(scored, request)}: {named}")
        if scored.query_truncated:
            warnings.append(f"the query was cut to fit the model's {self.card.max_length} tokens")
        if request.return_embeddings and not self.card.embeddings:
            warnings.append(f"return_embeddings: {self.card.name} has no embeddings")
        if request.instruction is not None and not self.card.instructions:
            warnings.append(f"instruction: {self.card.name} follows none")
        if self._on_another_scale(request):
            warnings.append(f"raw_scores: {self.card.name} has one scale of scores ({self.card.score})")
        if request.max_chunks_per_doc is not None and self.card.listwise:
            warnings.append(f"max_chunks_per_doc: {self.card.name} reads a document in one piece")
        return tuple(warnings)

    def _on_another_scale(self, request: RerankRequest) -> bool:
        own = "logit" if request.raw_scores else "probability"
        return request.raw_scores is not None and not self.card.logits and self.card.score != own

    def _limit(self, scored: Scored, request: RerankRequest) -> str:
        own = f"the model's {scored.limit or self.card.max_length} tokens"
        asked = request.max_tokens_per_doc
        return own if asked is None else f"max_tokens_per_doc {asked} or {own}"


def _search_units(scored: Scored) -> int | None:
    if scored.pair_tokens is None:
        return None
    return ceil(
        sum(max(1, ceil(tokens / TOKENS_OF_A_CHUNK)) for tokens in scored.pair_tokens) / CHUNKS_OF_A_SEARCH_UNIT
    )
