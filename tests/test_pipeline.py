from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from rerankd.accounts import Entry
from rerankd.errors import DeadlineExceeded, ModelNotFound, UpstreamMalformed, UpstreamUnavailable
from rerankd.pipeline import Accounting, Cascade, Local, Member, Remote, order, pipeline
from rerankd.policies.breaker import Breaker
from rerankd.policies.memory_counters import MemoryCounters
from rerankd.policies.score_store import MemoryScores
from rerankd.reranker import Reranker
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result
from tests.conftest import FakeReranker, request_for


class Dead:
    """A channel whose upstream is not there."""

    calls = 0

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self.calls += 1
        call.notes.attempts += 1
        raise UpstreamUnavailable("The upstream could not be reached.")


def local(name: str, reranker: Reranker | None = None, **options: Any) -> Member:
    return Local(name="local", reranker=reranker or FakeReranker(name), **options)


def remote(name: str, reranker: Reranker, **options: Any) -> Member:
    return Remote(name=name, reranker=reranker, breaker=Breaker(), ttl=60, **options)


def nesting(reranker: Any, route: str) -> list[str]:
    """The class names from the outside in, following `route` and the first choice where ways part."""
    names = []
    while not isinstance(reranker, FakeReranker):
        names.append(type(reranker).__name__)
        if hasattr(reranker, "_routes"):
            reranker = reranker._routes[route]
        elif hasattr(reranker, "_choices"):
            reranker = reranker._choices[0].reranker
        else:
            reranker = reranker._inner
    return names


def test_the_order_that_is_told_is_the_order_that_is_built() -> None:
    members: dict[str, list[Member]] = {
        "both": [local("both"), local("both")],
        "far": [remote("channel", FakeReranker("far"), max_documents=10)],
    }
    counters, kept = MemoryCounters(None, lambda: 0), NothingKept()
    accounting = Accounting(counters=counters, deadline=60, ledger=kept, claims=kept)
    built = pipeline(members, {}, scores=MemoryScores(10**6), accounting=accounting)
    of_local, of_channel = order()
    assert [*nesting(built, "both"), "model"] == of_local.split(" > ")
    assert [*nesting(built, "far"), "channel"] == of_channel.split(" > ")


class NothingKept:
    """A ledger and claims that know of nothing."""

    visible = 0

    async def record(self, entry: Entry, *, others: bool = False) -> int:
        return 1

    def note(self, entry: Entry) -> None:
        pass

    async def claim(self, key_id: str, idempotency_key: str, asked: bytes, holder: str, seconds: float) -> bytes | None:
        return None

    async def release(self, key_id: str, idempotency_key: str, holder: str) -> None:
        return None


def test_without_anybody_to_account_to_it_begins_with_the_deadline() -> None:
    assert nesting(pipeline({"m": [local("m")]}, {}), "m")[0] == "Deadlined"


def test_a_model_on_this_machine_alone_needs_no_choice_and_an_alias_is_a_name_for_it() -> None:
    built = pipeline({"m": [local("m")]}, {"alias": "m"})
    assert nesting(built, "m") == ["Deadlined", "Coalesced", "Routed", "Validated"]
    assert nesting(built, "alias") == ["Deadlined", "Coalesced", "Routed", "Named", "Validated"]


def test_an_answer_of_a_channel_that_nothing_was_put_to_is_checked_once() -> None:
    built = pipeline({"m": [remote("c", FakeReranker("m"))]}, {})
    assert nesting(built, "m") == ["Deadlined", "Coalesced", "Routed", "Fallback", "Guarded", "Retried", "Validated"]


@pytest.mark.parametrize(
    ("options", "scores", "between"),
    [({"max_documents": 10}, None, "Split"), ({}, MemoryScores(10**6), "Cached")],
)
def test_one_that_is_put_together_or_may_have_been_kept_is_checked_again(
    options: dict[str, Any], scores: MemoryScores | None, between: str
) -> None:
    built = pipeline({"m": [remote("c", FakeReranker("m"), **options)]}, {}, scores=scores)
    assert nesting(built, "m")[4:] == ["Validated", between, "Guarded", "Retried", "Validated"]


def test_a_listwise_channel_is_never_split() -> None:
    built = pipeline({"m": [remote("c", FakeReranker("m"), max_documents=1, listwise=True)]}, {})
    assert "Split" not in nesting(built, "m")


async def test_a_model_is_reached_by_its_name_and_its_alias(call: Call) -> None:
    built = pipeline({"one": [local("one")], "two": [local("two")]}, {"alias": "two"})
    answers = [await built.rerank(request_for(model=name), call) for name in ("one", "two", "alias")]
    assert [answer.model for answer in answers] == ["one", "two", "two"]


async def test_what_a_model_answers_is_checked_and_put_in_order(call: Call) -> None:
    built = pipeline({"m": [local("m", FakeReranker(results=[Result(0, 0.1), Result(1, 0.2)]))]}, {})
    answer = await built.rerank(request_for("a", "b", model="m", return_documents=True), call)
    assert answer.results == (Result(1, 0.2, Document("b")), Result(0, 0.1, Document("a")))
    with pytest.raises(UpstreamMalformed):
        await built.rerank(request_for("a", model="m"), call)


async def test_a_dead_channel_is_passed_over_and_after_a_while_not_even_asked(call: Call) -> None:
    dead = Dead()
    alive = FakeReranker("m")
    built = pipeline({"m": [remote("dead", dead, priority=1), remote("alive", alive)]}, {})
    for number in range(20):
        answer = await built.rerank(request_for(f"{number}", model="m"), Call(f"{number}"))
        assert answer.model == "m"
    assert len(alive.asked) == 20
    assert dead.calls <= 10, "five requests, each of which asks a second time"


async def test_another_model_stands_in_where_the_configuration_says_so(call: Call) -> None:
    members: dict[str, list[Member]] = {"good": [remote("dead", Dead())], "cheap": [local("cheap")]}
    answer = await pipeline(members, {}, fallback={"good": ["cheap"]}).rerank(request_for(model="good"), call)
    assert answer.model == "cheap"


async def test_a_cascade_answers_with_what_the_second_model_scored(call: Call) -> None:
    first = FakeReranker("first", results=[Result(0, 0.1), Result(1, 0.9), Result(2, 0.5)])
    then = FakeReranker("then", results=[Result(0, 0.3), Result(1, 0.4)])
    built = pipeline(
        {"first": [local("first", first)], "then": [local("then", then)]},
        {},
        cascades={"both": Cascade("first", "then", 2)},
    )
    answer = await built.rerank(request_for("a", "b", "c", model="both", return_documents=True), call)
    assert [document.text for document in then.asked[0].documents] == ["b", "c"]
    assert answer.results == (Result(2, 0.4, Document("c")), Result(1, 0.3, Document("b")))
    assert any("1" in warning for warning in answer.warnings)


async def test_what_was_computed_is_not_computed_again(call: Call) -> None:
    model = FakeReranker("m")
    built = pipeline({"m": [local("m", model, pairwise=True)]}, {}, scores=MemoryScores(10**6))
    first = await built.rerank(request_for("a", "b", model="m"), call)
    again = await built.rerank(request_for("a", "b", model="m", top_n=1), call)
    assert len(model.asked) == 1
    assert again.results == first.results[:1]
    assert again.usage.cached_tokens == first.usage.prompt_tokens


async def test_no_model_may_take_longer_than_the_request_has() -> None:
    with pytest.raises(DeadlineExceeded):
        await pipeline({"m": [local("m", FakeReranker(seconds=5))]}, {}).rerank(
            request_for(model="m"), Call("the-request", deadline=monotonic() + 0.01)
        )


async def test_a_pipeline_without_models_finds_none(call: Call) -> None:
    with pytest.raises(ModelNotFound):
        await pipeline({}, {}).rerank(request_for(model="m"), call)
