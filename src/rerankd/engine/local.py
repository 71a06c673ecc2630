"""A local model as a Reranker: the scorer does the work on its device's thread, this puts it into an answer.

Results come in document order; ordering, cutting and documents are `validate`'s.
"""

from __future__ import annotations

import logging
from functools import partial
from math import isfinite

from rerankd.engine.scorer import Scored, Scorer, Watch
from rerankd.engine.worker import DeviceThread
from rerankd.errors import EngineError, RerankError
from rerankd.types import Call, ModelCard, RerankRequest, RerankResponse, Result, Usage

log = logging.getLogger("rerankd.engine")


class LocalReranker:
    def __init__(self, scorer: Scorer, thread: DeviceThread) -> None:
        self._scorer = scorer
        self._thread = thread

    @property
    def card(self) -> ModelCard:
        return self._scorer.card

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        texts = [document.text for document in request.documents]
        watch = Watch(deadline=call.deadline)
        scored = await self._thread.run(partial(self._score, request.query, texts, call.request_id), watch)
        for stage, milliseconds in watch.timings.items():
            call.notes.took(stage, milliseconds)
        call.notes.channel = "local"
        return RerankResponse(
            model=self.card.name,
            results=self._results(scored, request.return_embeddings),
            usage=Usage(prompt_tokens=scored.tokens),
            warnings=self._warnings(scored, request),
        )

    def _score(self, query: str, texts: list[str], request_id: str, watch: Watch) -> Scored:
        try:
            scored = self._scorer.score(query, texts, watch)
        except RerankError:
            raise
        except Exception as cause:
            log.exception("model %s failed on request %s", self.card.name, request_id)
            raise EngineError(f"The model failed on this request; the server's log has it as {request_id}.") from cause
        if not all(isfinite(score) for score in scored.scores):
            log.error("model %s gave a score that is not finite on request %s", self.card.name, request_id)
            raise EngineError(f"The model gave a score that is no number; the server's log has it as {request_id}.")
        return scored

    def _results(self, scored: Scored, return_embeddings: bool) -> tuple[Result, ...]:
        if return_embeddings and scored.embeddings is not None:
            pairs = zip(scored.scores, scored.embeddings, strict=True)
            return tuple(Result(index, score, None, vector) for index, (score, vector) in enumerate(pairs))
        return tuple(Result(index, score) for index, score in enumerate(scored.scores))

    def _warnings(self, scored: Scored, request: RerankRequest) -> tuple[str, ...]:
        warnings = []
        if scored.truncated:
            named = ", ".join(map(str, scored.truncated[:10])) + (", ..." if len(scored.truncated) > 10 else "")
            count = f"{len(scored.truncated)} of {len(request.documents)} documents"
            warnings.append(f"{count} cut to the model's {self.card.max_length} tokens: {named}")
        if scored.query_truncated:
            warnings.append(f"the query was cut to fit the model's {self.card.max_length} tokens")
        if request.return_embeddings and not self.card.embeddings:
            warnings.append(f"return_embeddings: {self.card.name} has no embeddings")
        return tuple(warnings)
