"""Rerankers that do one thing: fail, take their time, or remember what they were asked."""

from __future__ import annotations

import asyncio
import threading

import msgspec

from rerankd.types import LOCAL, Call, RerankRequest, RerankResponse, Result, Usage


def answer_to(request: RerankRequest, warnings: tuple[str, ...] = ()) -> RerankResponse:
    """Every document as relevant as the others, by a model named `lexical`."""
    results = tuple(Result(index, 0.5) for index in range(len(request.documents)))
    return RerankResponse(model="lexical", results=results, usage=Usage(prompt_tokens=1), warnings=warnings)


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        if self.error is not None:
            raise self.error
        return answer_to(request)


class Remembering:
    """Stands for models on this machine; `results` are what it answers instead of its own."""

    def __init__(self, warnings: tuple[str, ...] = (), results: tuple[Result, ...] | None = None) -> None:
        self.requests: list[RerankRequest] = []
        self.calls: list[Call] = []
        self._warnings = warnings
        self._results = results

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self.requests.append(request)
        self.calls.append(call)
        call.notes.channel = LOCAL
        answer = answer_to(request, self._warnings)
        return answer if self._results is None else msgspec.structs.replace(answer, results=self._results)


class Slow:
    """Answers after `seconds`; says when it has begun and when it was cancelled, to other threads too."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self.begun.set()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return answer_to(request)
