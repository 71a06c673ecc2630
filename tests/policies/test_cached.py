from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.errors import BadRequest, RerankError
from rerankd.policies.cached import Cached, shares
from rerankd.policies.score_store import MemoryScores
from rerankd.policies.validated import Validated
from rerankd.reranker import Reranker
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import FakeReranker
from tests.policies.pairs import PairModel, asking

MUCH = 2**20


def cached(inner: Reranker, store: MemoryScores | None = None, **options: Any) -> Cached:
    given: dict[str, Any] = {"identity": "model at revision", "pairwise": True, "ttl": None} | options
    return Cached(inner, store or MemoryScores(MUCH), **given)


def call(owner: str = "") -> Call:
    return Call("the-request", owner=owner)


async def outcome(reranker: Reranker, request: RerankRequest, owner: str) -> tuple[object, ...]:
    """Everything that a caller gets, floats as their bytes, without what was saved."""
    try:
        answer = await Validated(reranker).rerank(request, call(owner))
    except RerankError as error:
        return type(error), error.message, error.param
    assert 0 <= answer.usage.cached_tokens <= answer.usage.prompt_tokens
    rows = [(result.index, struct.pack("<d", result.relevance_score), result.document) for result in answer.results]
    return answer.model, rows, answer.warnings


# Texts of one to eight characters are read whole, longer ones are cut, with a warning or, on demand, an error.
TEXTS = st.sampled_from(["", "a", "b", "c", "dd", "eee", "ü", "中文", "far too long", "far too long too"])
REQUESTS = st.builds(
    RerankRequest,
    query=st.sampled_from(["q", "r"]),
    documents=st.lists(st.builds(Document, TEXTS, st.sampled_from([None, {"id": 1}])), min_size=1, max_size=6).map(
        tuple
    ),
    top_n=st.none() | st.integers(1, 7),
    return_documents=st.booleans(),
    instruction=st.sampled_from([None, "i"]),
    max_tokens_per_doc=st.sampled_from([None, 3]),
    truncation=st.sampled_from([True, True, False]),
    raw_scores=st.sampled_from([None, True, False]),
)


@given(
    st.lists(st.tuples(REQUESTS, st.sampled_from(["", "one", "two"])), max_size=12),
    st.booleans(),
    st.sampled_from([0, 2000, MUCH]),
)
async def test_a_cached_answer_equals_a_computed_one_to_the_last_bit(
    requests: list[tuple[RerankRequest, str]], pairwise: bool, room: int
) -> None:
    reranker = cached(PairModel(), MemoryScores(room), pairwise=pairwise)
    for request, owner in requests:
        assert await outcome(reranker, request, owner) == await outcome(PairModel(), request, owner)


@given(st.lists(TEXTS, min_size=1, max_size=6))
async def test_the_same_request_again_computes_nothing_and_says_so(documents: list[str]) -> None:
    model = PairModel()
    reranker = cached(model)
    first = await reranker.rerank(asking(documents), call())
    again = call()
    second = await reranker.rerank(asking(documents), again)
    assert len(model.asked) == 1
    assert second == msgspec.structs.replace(
        first, usage=msgspec.structs.replace(first.usage, cached_tokens=first.usage.prompt_tokens)
    )
    assert (again.notes.cached, again.notes.channel, again.notes.attempts) == (True, "local", 0)


async def test_only_documents_that_are_not_known_are_asked_for() -> None:
    model = PairModel()
    reranker = cached(model)
    await reranker.rerank(asking(["a", "b"]), call())
    some = call()
    answer = await reranker.rerank(asking(["x", "b", "y", "a", "x"]), some)
    assert model.asked == [["a", "b"], ["x", "y", "x"]]
    assert [result.index for result in answer.results] == [0, 1, 2, 3, 4]
    assert not some.notes.cached
    await reranker.rerank(asking(["y", "b"]), call())
    assert len(model.asked) == 2


async def test_a_request_of_one_document_knows_its_tokens_and_of_more_they_are_an_estimate() -> None:
    reranker = cached(PairModel())
    for text in ("a", "eee"):
        await reranker.rerank(asking([text]), call())
    exact = await reranker.rerank(asking(["eee", "a"]), call())
    assert exact.usage == Usage(prompt_tokens=12, cached_tokens=12)
    await reranker.rerank(asking(["b", "c"]), call())
    answer = await reranker.rerank(asking(["b", "new"]), call())
    assert answer.usage == Usage(prompt_tokens=12, cached_tokens=5, estimated=True)


@given(st.integers(0, 10**6), st.lists(st.text(max_size=20), min_size=1, max_size=30))
def test_shares_add_up_and_none_is_negative(total: int, documents: list[str]) -> None:
    dealt = shares(total, asking(documents))
    assert (len(dealt), sum(dealt)) == (len(documents), total)
    assert min(dealt) >= 0


async def test_warnings_that_name_documents_are_right_in_a_request_of_others() -> None:
    model = PairModel()
    reranker = cached(model)
    await reranker.rerank(asking(["a", "b"]), call())
    request = asking(["b", "a", "much too long"])
    answer = await reranker.rerank(request, call())
    assert answer.warnings == ("1 of 3 documents cut to 8: [2]",)
    assert (await reranker.rerank(request, call())).warnings == answer.warnings
    assert model.asked == [["a", "b"], ["much too long"], ["b", "a", "much too long"]]


async def test_an_error_about_a_document_names_it_by_its_place_in_the_request() -> None:
    reranker = cached(PairModel())
    strict = msgspec.structs.replace(asking(["a"]), truncation=False)
    await reranker.rerank(strict, call())
    documents = (Document("a"), Document("much too long"))
    with pytest.raises(BadRequest, match=r"documents\[1\]"):
        await reranker.rerank(msgspec.structs.replace(strict, documents=documents), call())


async def test_an_error_is_not_kept() -> None:
    model = PairModel()
    reranker = cached(model)
    strict = msgspec.structs.replace(asking(["much too long"]), truncation=False)
    for _ in range(2):
        with pytest.raises(BadRequest):
            await reranker.rerank(strict, call())
    assert len(model.asked) == 2


class Changing:
    """Another model answers each time, as where a channel fails and the next one takes over."""

    def __init__(self, order: Sequence[PairModel]) -> None:
        self._order = iter(order)

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        return await next(self._order).rerank(request, call)


@given(st.lists(st.tuples(st.lists(TEXTS, min_size=1, max_size=5), st.booleans(), st.booleans()), max_size=15))
async def test_scores_of_two_models_never_stand_in_one_answer(steps: list[tuple[list[str], bool, bool]]) -> None:
    models = {name: PairModel(name) for name in ("one", "two")}
    order = [models["one" if turn else "two"] for _, *turns in steps for turn in turns]
    reranker = cached(Changing(order))
    for documents, *_ in steps:
        answer = await reranker.rerank(asking(documents), call())
        expected = await models[answer.model].rerank(asking(documents), call())
        assert answer.results == expected.results


async def test_nor_those_of_two_channels() -> None:
    near, far = PairModel(channel="near"), PairModel(channel="far")
    reranker = cached(Changing([near, far, far]))
    await reranker.rerank(asking(["a"]), call())
    noted = call()
    await reranker.rerank(asking(["a", "b"]), noted)
    assert far.asked == [["b"], ["a", "b"]]
    assert noted.notes.channel == "far"


async def test_an_inner_answer_that_lacks_documents_is_not_taken_apart() -> None:
    reranker = cached(short := FakeReranker(results=[Result(1, 0.5)]))
    short_answer = await reranker.rerank(asking(["a", "b"]), call())
    assert short_answer.results == (Result(1, 0.5),)
    await reranker.rerank(asking(["b"]), call())
    assert len(short.asked) == 2


async def test_what_comes_back_is_asked_for_whole_and_without_documents() -> None:
    model = PairModel()
    request = msgspec.structs.replace(asking(["a", "b"]), top_n=1, return_documents=True)
    await cached(model).rerank(request, call())
    assert model.requests == [asking(["a", "b"])]


async def test_without_pairs_only_the_same_documents_in_the_same_order_are_known() -> None:
    model = PairModel()
    reranker = cached(model, pairwise=False)
    for documents in (["a", "b"], ["b", "a"], ["a"], ["a", "b"], ["ab"]):
        await reranker.rerank(asking(documents), call())
    assert model.asked == [["a", "b"], ["b", "a"], ["a"], ["ab"]]


async def test_without_pairs_the_fields_of_a_document_count() -> None:
    for pairwise, calls in ((False, 2), (True, 1)):
        model = PairModel()
        reranker = cached(model, pairwise=pairwise)
        for fields in ({"title": "x"}, {"title": "y"}):
            await reranker.rerank(RerankRequest(query="q", documents=(Document("a", fields),)), call())
        assert len(model.asked) == calls


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query", "another"),
        ("instruction", "i"),
        ("max_tokens_per_doc", 3),
        ("max_chunks_per_doc", 2),
        ("overlap_tokens", 2),
        ("truncation", False),
        ("raw_scores", True),
        ("raw_scores", False),
    ],
)
async def test_what_changes_a_score_makes_another_request(field: str, value: object) -> None:
    model = PairModel()
    reranker = cached(model)
    await reranker.rerank(asking(["a"]), call())
    await reranker.rerank(msgspec.structs.replace(asking(["a"]), **{field: value}), call())
    assert len(model.asked) == 2


async def test_another_model_in_the_same_store_is_another() -> None:
    store, one, two = MemoryScores(MUCH), PairModel("one"), PairModel("two")
    await cached(one, store, identity="one").rerank(asking(["a"]), call())
    assert (await cached(two, store, identity="two").rerank(asking(["a"]), call())).model == "two"


async def test_another_owner_pays_for_his_own() -> None:
    model = PairModel()
    reranker = cached(model)
    for owner in ("one", "two", "one"):
        await reranker.rerank(asking(["a"]), call(owner))
    assert len(model.asked) == 2


async def test_what_is_older_than_its_time_is_asked_for_again() -> None:
    now = [0.0]
    model = PairModel()
    reranker = cached(model, MemoryScores(MUCH, lambda: now[0]), ttl=60.0)
    for seconds in (0.0, 59.0, 61.0):
        now[0] = seconds
        await reranker.rerank(asking(["a"]), call())
    assert len(model.asked) == 2


@pytest.mark.parametrize(
    "request_",
    [
        msgspec.structs.replace(asking(["a"]), return_embeddings=True),
        asking([]),
        asking(["half \ud800"]),
        asking(["a"], query="half \ud800"),
    ],
    ids=["embeddings", "no documents", "half a character", "half a character in the query"],
)
async def test_what_cannot_be_kept_goes_through_as_it_is(request_: RerankRequest) -> None:
    inner = FakeReranker()
    reranker = cached(inner)
    for _ in range(2):
        await reranker.rerank(request_, call())
    assert inner.asked == [request_, request_]


async def test_a_store_that_holds_what_is_none_of_ours_is_no_harm() -> None:
    class Odd(MemoryScores):
        async def get(self, owner: str, keys: Sequence[bytes]) -> list[bytes | None]:
            return [b"\xc1 rubbish" for _ in keys]

    answer = await cached(PairModel(), Odd(MUCH)).rerank(asking(["a"]), call())
    assert len(answer.results) == 1
