from __future__ import annotations

import msgspec
import pytest

from rerankd.channels.client import Client
from rerankd.channels.probe import DOCUMENTS, QUERY, judge
from rerankd.dialects.directory import DIALECTS
from rerankd.errors import UpstreamRefused
from rerankd.types import Call, RerankRequest, RerankResponse, Result, ScoreKind, Usage
from tests.channels.upstream import channel_to, speaking, upstream


class Scoring:
    def __init__(self, *results: Result, estimated: bool = False) -> None:
        self.results = results
        self.usage = Usage(prompt_tokens=9, estimated=estimated)
        self.asked: list[tuple[RerankRequest, Call]] = []

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self.asked.append((request, call))
        return RerankResponse(model="m", results=self.results, usage=self.usage, warnings=("a warning",))


def scored(pizza: float, paris: float) -> list[Result]:
    return [Result(1, paris), Result(0, pizza)]


async def test_a_right_answer_is_good() -> None:
    reranker = Scoring(*scored(0.01, 0.99))
    verdict = await judge(reranker, "the-model", patience=7)
    ((request, call),) = reranker.asked
    assert (request.query, request.model) == (QUERY, "the-model")
    assert "pizza" in request.documents[0].text
    assert "Paris" in request.documents[1].text
    assert 6 < (call.remaining() or 0) <= 7
    assert verdict.good
    assert (verdict.complete, verdict.finite, verdict.right_order, verdict.usage_given) == (True,) * 4
    assert verdict.scores == (0.01, 0.99)
    assert verdict.warnings == ("a warning",)
    assert verdict.milliseconds >= 0
    assert verdict.error is verdict.code is None


@pytest.mark.parametrize(
    ("pizza", "paris", "scale"),
    [
        (0.0, 1.0, "probability"),
        (0.01, 0.99, "probability"),
        (-0.05, 0.71, "cosine"),
        (-11.2, 6.4, "logit"),
        (0.4, 3.0, "logit"),
        (-9.0, -1.5, "logit"),
    ],
)
async def test_the_scale_is_guessed_from_the_scores(pizza: float, paris: float, scale: ScoreKind) -> None:
    assert (await judge(Scoring(*scored(pizza, paris)), None)).scale == scale


async def test_usage_that_was_estimated_was_not_given() -> None:
    verdict = await judge(Scoring(*scored(0, 1), estimated=True), None)
    assert verdict.good
    assert not verdict.usage_given


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([], "lacks results"),
        ([Result(1, 0.9)], "lacks results"),
        ([Result(1, 0.9), Result(1, 0.8)], "lacks results"),
        ([Result(1, 0.9), Result(2, 0.8)], "lacks results"),
        ([Result(0, 0.1), Result(1, 0.9), Result(2, 0.8)], "lacks results"),
        (scored(float("nan"), 0.9), "not a finite number"),
        (scored(0.1, float("inf")), "not a finite number"),
        (scored(0.9, 0.1), "WRONG order"),
        (scored(0.5, 0.5), "WRONG order"),
    ],
)
async def test_a_wrong_answer_is_not_and_why_is_said(results: list[Result], words: str) -> None:
    verdict = await judge(Scoring(*results), None)
    assert not verdict.good
    assert words in verdict.summary


async def test_an_error_is_told_in_our_words() -> None:
    class Refusing:
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            raise UpstreamRefused("The upstream does not take our key.")

    verdict = await judge(Refusing(), None)
    assert not verdict.good
    assert (verdict.code, verdict.error) == ("upstream_refused", "The upstream does not take our key.")
    assert verdict.summary == verdict.error


async def test_a_verdict_can_be_written_down() -> None:
    written = msgspec.to_builtins(await judge(Scoring(*scored(0.1, 0.9)), None))
    assert written["right_order"] is True
    assert written["scores"] == (0.1, 0.9)


async def test_a_channel_is_judged_with_a_real_request(client: Client) -> None:
    seen: list[RerankRequest] = []
    async with upstream(speaking(DIALECTS["voyage"], seen)) as there:
        verdict = await judge(channel_to(there.url, client, "voyage"), "public")
    assert verdict.good
    assert verdict.usage_given
    assert [document.text for document in seen[0].documents] == list(DOCUMENTS)
