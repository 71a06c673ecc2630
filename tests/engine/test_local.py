from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import pytest

from rerankd.engine.local import LocalReranker
from rerankd.engine.scorer import Scored, Watch
from rerankd.engine.worker import DeviceThread
from rerankd.errors import EngineError
from rerankd.types import Call, Document, ModelCard, RerankRequest

CARD = ModelCard(
    name="m", family="test", score="logit", source="here", device="cpu", dtype="float32", max_length=8, embeddings=True
)


class FixedScorer:
    """Says what it is told to, or does what it is told to."""

    def __init__(self, answer: Callable[[], Scored], card: ModelCard = CARD) -> None:
        self.card = card
        self._answer = answer

    def score(self, query: str, documents: Sequence[str], watch: Watch) -> Scored:
        return self._answer()


@pytest.fixture
def thread() -> Iterator[DeviceThread]:
    thread = DeviceThread("test")
    yield thread
    thread.close()


def asked(embeddings: bool = False) -> RerankRequest:
    return RerankRequest(query="secret query", documents=(Document("a"), Document("b")), return_embeddings=embeddings)


async def test_scores_come_back_in_document_order_with_what_was_fed(thread: DeviceThread) -> None:
    answer = await LocalReranker(FixedScorer(lambda: Scored([0.1, 0.9], tokens=7)), thread).rerank(asked(), Call("r"))
    assert [(result.index, result.relevance_score) for result in answer.results] == [(0, 0.1), (1, 0.9)]
    assert (answer.model, answer.usage.prompt_tokens, answer.warnings) == ("m", 7, ())


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
async def test_a_score_that_is_no_number_is_our_error(thread: DeviceThread, score: float) -> None:
    with pytest.raises(EngineError, match="no number"):
        await LocalReranker(FixedScorer(lambda: Scored([0.1, score], tokens=7)), thread).rerank(asked(), Call("r"))


async def test_a_bug_is_logged_and_shown_without_its_text(
    thread: DeviceThread, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> Scored:
        raise ValueError("the inner text")

    with caplog.at_level(logging.DEBUG), pytest.raises(EngineError) as caught:
        await LocalReranker(FixedScorer(fails), thread).rerank(asked(), Call("request-7"))
    assert "inner text" not in caught.value.message
    assert "request-7" in caught.value.message
    assert "inner text" in caplog.text
    assert "secret query" not in caplog.text


async def test_a_bug_leaves_the_next_request_unharmed(thread: DeviceThread) -> None:
    def fails() -> Scored:
        raise MemoryError

    with pytest.raises(EngineError):
        await LocalReranker(FixedScorer(fails), thread).rerank(asked(), Call("r"))
    assert (await LocalReranker(FixedScorer(lambda: Scored([1, 2], 1)), thread).rerank(asked(), Call("r"))).results


async def test_what_was_cut_is_told(thread: DeviceThread) -> None:
    scored = Scored([1, 2], 9, truncated=[1], query_truncated=True)
    answer = await LocalReranker(FixedScorer(lambda: scored), thread).rerank(asked(), Call("r"))
    assert answer.warnings == (
        "1 of 2 documents cut to the model's 8 tokens: 1",
        "the query was cut to fit the model's 8 tokens",
    )


async def test_embeddings_come_where_asked_for_and_a_model_without_them_says_so(thread: DeviceThread) -> None:
    vectors = [(1.0, 0.0), (0.0, 1.0)]
    with_vectors = LocalReranker(FixedScorer(lambda: Scored([1, 2], 9, embeddings=vectors)), thread)
    assert [result.embedding for result in (await with_vectors.rerank(asked(True), Call("r"))).results] == vectors
    assert [result.embedding for result in (await with_vectors.rerank(asked(), Call("r"))).results] == [None, None]
    bare = ModelCard(name="bare", family="test", score="logit", source="here", device="cpu", dtype="float32")
    without = LocalReranker(FixedScorer(lambda: Scored([1, 2], 9), bare), thread)
    assert (await without.rerank(asked(True), Call("r"))).warnings == ("return_embeddings: bare has no embeddings",)
