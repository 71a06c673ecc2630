"""How fast a Reranker answers: a whole request, ten documents and one document, in rounds; several Rerankers take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from time import perf_counter

from rerankd.evals.made_texts import QUERY, made_documents
from rerankd.reranker import Reranker
from rerankd.types import Call, Document, RerankRequest, RerankResponse

TEN = 10
ONES = 3
"""Requests of one document in each round, for they are soon over."""
SAMPLE = 16
SHORT = 16
"""Documents, and words of each, by which a model's tokens a word are counted."""

Done = Callable[[str, int, int], None]
"""Called with a Reranker's name, and how many rounds of how many it has behind it."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Of a request of `documents`: its tokens as the model counted them, and in document order the scores that it got.

    All times are in milliseconds, of each round's request: the whole of it, its stages, and requests of ten documents and
    of one. What was warmed up with is not among them.
    """

    documents: int
    tokens: int
    scores: Sequence[float]
    warnings: Sequence[str]
    whole: list[float] = field(default_factory=list)
    ten: list[float] = field(default_factory=list)
    one: list[float] = field(default_factory=list)
    by_stage: dict[str, list[float]] = field(default_factory=dict)

    @property
    def documents_per_second(self) -> float:
        return 1000 * self.documents / median(self.whole)

    @property
    def tokens_per_second(self) -> float:
        return 1000 * self.tokens / median(self.whole)

    @property
    def stages(self) -> dict[str, float]:
        """The median of each stage, in the order in which they came."""
        return {stage: median(times) for stage, times in self.by_stage.items()}


@dataclass(frozen=True, slots=True)
class Timed:
    """An answer, the milliseconds until it came, and those of its stages."""

    answer: RerankResponse
    milliseconds: float
    stages: Mapping[str, float]


async def words_for(reranker: Reranker, tokens: int) -> int:
    """How many words a document has that `reranker` counts as about `tokens` tokens."""
    once, twice = [await _tokens(reranker, words) for words in (SHORT, 2 * SHORT)]
    a_word = max(1.0, (twice - once) / (SAMPLE * SHORT))  # less than one only where the model cut what it read
    return round(tokens / a_word)


async def take_turns(
    rerankers: Mapping[str, Reranker], documents: int, words: int, rounds: int, done: Done
) -> dict[str, Speed]:
    """The speed of each with `documents` documents of `words` words. A round before the first is not counted."""
    whole, ten, one = (_request(made_documents(count, words)) for count in (documents, TEN, 1))
    speeds: dict[str, Speed] = {}
    for turn in range(rounds + 1):
        for name, reranker in rerankers.items():
            long = await _timed(reranker, whole)
            short = [await _timed(reranker, asked) for asked in (ten, *(one,) * ONES)]
            if turn:
                _add(speeds[name], long, short)
            else:
                speeds[name] = _begun(long.answer)
            done(name, turn + 1, rounds + 1)
    return speeds


def percentile(values: Sequence[float], share: float) -> float:
    """The least of `values` that `share` percent of them do not exceed (nearest rank); of five, the 95th is the largest."""
    return sorted(values)[max(0, ceil(share / 100 * len(values)) - 1)]


def _begun(answer: RerankResponse) -> Speed:
    scores = {result.index: result.relevance_score for result in answer.results}
    return Speed(
        documents=len(scores),
        tokens=answer.usage.prompt_tokens,
        scores=[scores[index] for index in range(len(scores))],
        warnings=answer.warnings,
    )


def _add(speed: Speed, whole: Timed, short: Sequence[Timed]) -> None:
    speed.whole.append(whole.milliseconds)
    speed.ten.append(short[0].milliseconds)
    speed.one.extend(one.milliseconds for one in short[1:])
    for stage, milliseconds in whole.stages.items():
        speed.by_stage.setdefault(stage, []).append(milliseconds)


async def _timed(reranker: Reranker, request: RerankRequest) -> Timed:
    call = Call(request_id="bench")
    started = perf_counter()
    answer = await reranker.rerank(request, call)
    return Timed(answer, 1000 * (perf_counter() - started), call.notes.timings)


async def _tokens(reranker: Reranker, words: int) -> int:
    answer = await reranker.rerank(_request(made_documents(SAMPLE, words)), Call(request_id="bench"))
    return answer.usage.prompt_tokens


def _request(texts: Sequence[str]) -> RerankRequest:
    return RerankRequest(query=QUERY, documents=tuple(map(Document, texts)))
