from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import msgspec
import pytest

from rerankd import Document, Reranker
from rerankd.engine.admission import Rate
from rerankd.engine.local import LocalReranker
from rerankd.errors import BadRequest, DeadlineExceeded, LoadError, Refused, RerankError
from rerankd.library import RankOptions, request_of
from rerankd.types import Call, RerankRequest, RerankResponse
from tests.conftest import FakeReranker, request_for
from tests.engine.fake_models import PATIENCE, EchoScorer, Gated

QUERY = "What is the capital of France?"
TEXTS = ["The sky is blue.", "Paris is the capital of France.", "I like to eat pizza."]


@pytest.fixture(scope="module")
def reranker() -> Iterator[Reranker]:
    with Reranker("lexical") as reranker:
        yield reranker


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_the_best_document_comes_first_with_its_text(reranker: Reranker) -> None:
    answer = reranker.rank(QUERY, TEXTS)
    best = answer.results[0]
    assert (best.index, best.document) == (1, Document(TEXTS[1]))
    assert sorted(result.index for result in answer.results) == [0, 1, 2]
    assert answer.model == "lexical"
    assert answer.usage.total_tokens > 0


async def test_rank_and_arank_give_the_same(reranker: Reranker) -> None:
    assert await reranker.arank(QUERY, TEXTS, top_n=2) == reranker.rank(QUERY, TEXTS, top_n=2)


async def test_rank_works_where_an_event_loop_is_running_already(reranker: Reranker) -> None:
    assert asyncio.get_running_loop().is_running()
    assert reranker.rank(QUERY, TEXTS).results[0].index == 1


def test_many_threads_may_rank_at_once(reranker: Reranker) -> None:
    found: dict[int, str] = {}

    def rank(number: int) -> None:
        texts = [f"word{other}" for other in range(8)]
        document = reranker.rank(f"word{number}", texts).results[0].document
        found[number] = document.text if document else ""

    workers = [threading.Thread(target=rank, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == {number: f"word{number}" for number in range(8)}


@pytest.mark.parametrize(("top_n", "kept"), [(None, 3), (0, 3), (1, 1), (2, 2), (3, 3), (50, 3)])
def test_top_n_keeps_the_best(reranker: Reranker, top_n: int | None, kept: int) -> None:
    assert reranker.rank(QUERY, TEXTS, top_n=top_n).results == reranker.rank(QUERY, TEXTS).results[:kept]


def test_documents_can_be_left_out(reranker: Reranker) -> None:
    assert [result.document for result in reranker.rank(QUERY, TEXTS, return_documents=False).results] == [None] * 3


def test_documents_may_be_any_sequence_and_empty_texts(reranker: Reranker) -> None:
    assert reranker.rank(QUERY, tuple(TEXTS)) == reranker.rank(QUERY, TEXTS)
    assert len(reranker.rank(QUERY, ["", ""]).results) == 2


def test_embeddings_that_a_model_does_not_have_are_missed_with_a_warning(reranker: Reranker) -> None:
    answer = reranker.rank(QUERY, TEXTS, return_embeddings=True)
    assert [result.embedding for result in answer.results] == [None] * 3
    assert answer.warnings == ("return_embeddings: lexical has no embeddings",)


@pytest.mark.parametrize(
    ("query", "documents", "options", "param"),
    [
        ("", TEXTS, {}, "query"),
        (None, TEXTS, {}, "query"),
        (QUERY, [], {}, "documents"),
        (QUERY, "one string", {}, "documents"),
        (QUERY, "", {}, "documents"),
        (QUERY, TEXTS, {"top_n": -1}, "top_n"),
    ],
)
async def test_what_is_wrong_is_a_bad_request_that_names_it(
    reranker: Reranker, query: Any, documents: Any, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        reranker.rank(query, documents, **options)
    assert caught.value.param == param
    with pytest.raises(BadRequest) as caught:
        await reranker.arank(query, documents, **options)
    assert caught.value.param == param


class Overheard(Reranker):
    """Keeps what it is asked, and answers without a model."""

    def __init__(self) -> None:
        super().__init__("lexical")
        self.inner = FakeReranker()

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        return await self.inner.rerank(request, call)


async def test_every_option_of_a_request_can_be_given_by_keyword() -> None:
    options: RankOptions = {
        "top_n": 2,
        "return_documents": False,
        "return_embeddings": True,
        "instruction": "Find answers.",
        "max_tokens_per_doc": 7,
        "max_chunks_per_doc": 2,
        "overlap_tokens": 0,
        "truncation": False,
        "raw_scores": True,
        "priority": "batch",
    }
    fields = {field.name for field in msgspec.structs.fields(RerankRequest)}
    assert set(options) == RankOptions.__annotations__.keys() == fields - {"query", "documents", "model", "unread"}
    with Overheard() as reranker:
        reranker.rank(QUERY, TEXTS, **options)
        await reranker.arank(QUERY, TEXTS, **options)
        reranker.rank(QUERY, TEXTS)
    documents = tuple(map(Document, TEXTS))
    whole = RerankRequest(query=QUERY, documents=documents, model="lexical", **options)  # type: ignore[arg-type]
    bare = RerankRequest(query=QUERY, documents=documents, model="lexical", return_documents=True)
    assert reranker.inner.asked == [whole, whole, bare]


async def test_none_is_absent_for_every_option() -> None:
    none: Any = dict.fromkeys(RankOptions.__annotations__)
    assert request_of("q", ["a"], **none) == request_of("q", ["a"])


async def test_an_option_that_there_is_not_is_a_type_error(reranker: Reranker) -> None:
    for misspelt in ("topn", "instruct", "query_", "model"):
        wrong: Any = {misspelt: "1"}
        with pytest.raises(TypeError, match=f"'{misspelt}'"):
            reranker.rank("q", ["a"], **wrong)
        with pytest.raises(TypeError, match=f"'{misspelt}'"):
            await reranker.arank("q", ["a"], **wrong)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_an_answer_that_is_not_there_in_time_is_a_deadline_exceeded(reranker: Reranker, timeout: float) -> None:
    with pytest.raises(DeadlineExceeded):
        reranker.rank(QUERY, TEXTS, timeout=timeout)
    with pytest.raises(DeadlineExceeded):
        await reranker.arank(QUERY, TEXTS, timeout=timeout)
    assert reranker.rank(QUERY, TEXTS, timeout=600).results[0].index == 1


async def test_it_is_a_reranker_as_every_other_is(reranker: Reranker, call: Call) -> None:
    answer = await reranker.rerank(request_for("a", model=reranker.card.name), call)
    assert answer.model == "lexical"
    with pytest.raises(RerankError, match="no model 'other'"):
        await reranker.rerank(request_for("a", model="other"), call)
    with pytest.raises(DeadlineExceeded):
        await reranker.rerank(request_for("a", model="lexical"), Call("late", deadline=monotonic() - 1))


def test_closing_gives_every_thread_back() -> None:
    before = threads()
    with Reranker("lexical") as reranker:
        reranker.rank(QUERY, TEXTS)
        assert threads() > before
    assert threads() == before


def test_a_model_that_cannot_be_loaded_leaves_no_thread_behind() -> None:
    before = threads()
    with pytest.raises(LoadError):
        Reranker("/no/such/folder")
    with pytest.raises(RerankError, match="device"):
        Reranker("lexical", device="toaster")
    assert threads() == before


def test_without_a_name_it_is_builtin() -> None:
    with Reranker() as reranker:
        assert reranker.card.family == "builtin"
        assert reranker.rank(QUERY, TEXTS).results[0].index == 1


@pytest.mark.parametrize(
    ("query", "documents", "param"),
    [
        (1, ["a"], "query"),
        (b"q", ["a"], "query"),
        ("q", [1], "documents[0]"),
        ("q", ["a", None], "documents[1]"),
        ("q", b"ab", "documents"),
        ("q", None, "documents"),
        ("\ud800", ["a"], "query"),
        ("q", ["a", "b\udfff"], "documents[1]"),
    ],
)
def test_what_is_no_text_is_refused_by_name(query: Any, documents: Any, param: str) -> None:
    with Reranker("lexical") as reranker, pytest.raises(BadRequest) as caught:
        reranker.rank(query, documents)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("top_n", ["1", 1.5, True, -1, object()]),
        ("return_documents", ["yes", 1]),
        ("return_embeddings", [[]]),
        ("instruction", [7, b"Find.", "\ud800"]),
        ("max_tokens_per_doc", [-1, 1.5, True, "7", 10**30]),
        ("max_chunks_per_doc", [-1, "3"]),
        ("overlap_tokens", [-1, 10**6]),
        ("truncation", ["END", 0]),
        ("raw_scores", ["both", 7]),
        ("priority", ["high", 0.5]),
    ],
)
def test_an_option_that_is_not_as_it_must_be_is_refused_by_name(option: str, values: list[Any]) -> None:
    for value in values:
        wrong: Any = {option: value}
        with pytest.raises(BadRequest) as caught:
            request_of("q", ["a"], **wrong)
        assert caught.value.param == option
        assert f"`{option}`" in caught.value.message


def test_whoever_waits_when_it_is_closed_is_refused() -> None:
    runner = Gated(steps=100)
    reranker = Reranker("lexical")
    device = reranker._application.devices["cpu"]
    reranker._application.reranker = LocalReranker(EchoScorer(runner), device, Rate(1e6))
    outcomes: list[object] = []

    def ranks() -> None:
        try:
            outcomes.append(reranker.rank("q", ["1"]))
        except Exception as error:
            outcomes.append(error)

    waiting = [threading.Thread(target=ranks) for _ in range(5)]
    for thread in waiting:
        thread.start()
    asyncio.run(runner.reached())
    closing = threading.Thread(target=reranker.close)
    closing.start()
    for thread in waiting:
        thread.join(PATIENCE)
    runner.open()
    closing.join(PATIENCE)
    assert len(outcomes) == 5
    assert all(isinstance(outcome, (Refused, BadRequest)) for outcome in outcomes)
    assert any(isinstance(outcome, Refused) for outcome in outcomes)


async def test_closing_twice_does_nothing_and_ranking_after_it_is_refused() -> None:
    reranker = Reranker("lexical")
    reranker.close()
    reranker.close()
    with pytest.raises(BadRequest, match="closed"):
        reranker.rank("q", ["a"])
    with pytest.raises(BadRequest, match="closed"):
        await reranker.arank("q", ["a"])
