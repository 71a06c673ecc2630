from __future__ import annotations

import asyncio
import gc
from time import monotonic

import msgspec
import pytest

from rerankd.errors import DeadlineExceeded, EngineError, UpstreamUnavailable
from rerankd.policies.coalesced import Coalesced
from rerankd.policies.deadlined import Deadlined
from rerankd.types import Call, Document, RerankRequest, RerankResponse
from tests.conftest import FakeReranker, request_for

Waiting = asyncio.Task[RerankResponse]


class Held:
    """Answers when it is told to; keeps the calls, and what became of them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go = asyncio.Event()
        self.error = error
        self.calls: list[Call] = []
        self.cancelled = 0

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self.calls.append(call)
        call.notes.attempts += 1
        call.notes.channel = "far"
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # it takes a moment to end
            self.cancelled += 1
            raise
        call.notes.cached = True
        call.notes.took("upstream", 5)
        if self.error is not None:
            raise self.error
        return await FakeReranker().rerank(request, call)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def start(reranker: Coalesced, request: RerankRequest | None = None, call: Call | None = None) -> Waiting:
    task = asyncio.create_task(reranker.rerank(request or request_for(), call or Call("the-request")))
    await settle()
    return task


async def test_identical_requests_share_one_call_and_its_notes() -> None:
    inner = Held()
    reranker = Coalesced(inner)
    calls = [Call(str(number)) for number in range(3)]
    tasks = [await start(reranker, call=call) for call in calls]
    inner.go.set()
    answers = [await task for task in tasks]
    assert len(inner.calls) == 1
    assert answers[0] == answers[1] == answers[2] == await FakeReranker().rerank(request_for(), Call(""))
    for call in calls:
        assert (call.notes.channel, call.notes.attempts, call.notes.cached) == ("far", 1, True)
        assert call.notes.timings == {"upstream": 5}


async def test_notes_are_each_callers_own() -> None:
    inner = Held()
    reranker = Coalesced(inner)
    calls = [Call("one"), Call("two")]
    tasks = [await start(reranker, call=call) for call in calls]
    inner.go.set()
    await asyncio.gather(*tasks)
    calls[0].notes.took("upstream", 1)
    assert calls[1].notes.timings == {"upstream": 5}


async def test_work_that_has_ended_is_not_shared_with_those_who_come_later() -> None:
    inner = Held()
    inner.go.set()
    reranker = Coalesced(inner)
    for _ in range(2):
        await reranker.rerank(request_for(), Call("the-request"))
    assert len(inner.calls) == 2
    assert not reranker._flights


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query", "another"),
        ("documents", (Document("a"), Document("b"))),
        ("documents", (Document("a", {"id": 1}), Document("b"), Document("c"))),
        ("model", "another"),
        ("top_n", 1),
        ("return_documents", True),
        ("return_embeddings", True),
        ("instruction", "i"),
        ("max_tokens_per_doc", 1),
        ("max_chunks_per_doc", 1),
        ("overlap_tokens", 1),
        ("truncation", False),
        ("raw_scores", True),
        ("priority", "batch"),
    ],
)
async def test_another_request_is_another_call(field: str, value: object) -> None:
    inner = Held()
    reranker = Coalesced(inner)
    tasks = [
        await start(reranker, request)
        for request in (request_for(), msgspec.structs.replace(request_for(), **{field: value}))
    ]
    inner.go.set()
    await asyncio.gather(*tasks)
    assert len(inner.calls) == 2


async def test_of_several_requests_with_one_query_each_is_joined_by_its_own_kind() -> None:
    inner = Held()
    reranker = Coalesced(inner)
    asked = [request_for(*texts) for texts in (("a", "b"), ("a", "c"), ("a", "c"), ("a", "b"), ("half \ud800",))]
    tasks = [await start(reranker, request) for request in asked]
    assert len(inner.calls) == 3
    inner.go.set()
    answers = await asyncio.gather(*tasks)
    assert answers[0] is answers[3]
    assert answers[1] is answers[2]
    assert not reranker._flights


async def test_another_owner_is_another_call_and_fields_nobody_reads_are_not() -> None:
    inner = Held()
    reranker = Coalesced(inner)
    unread = msgspec.structs.replace(request_for(), unread=("top_p",))
    tasks = [
        await start(reranker, call=Call("1", owner="one")),
        await start(reranker, call=Call("2", owner="two")),
        await start(reranker, unread, Call("3", owner="two")),
    ]
    inner.go.set()
    await asyncio.gather(*tasks)
    assert [call.owner for call in inner.calls] == ["one", "two"]


@pytest.mark.parametrize("leaving", [0, 1, 2])
async def test_a_caller_who_goes_away_leaves_the_work_to_the_others(leaving: int) -> None:
    inner = Held()
    reranker = Coalesced(inner)
    tasks = [await start(reranker) for _ in range(3)]
    tasks[leaving].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[leaving]
    inner.go.set()
    answers = [await task for number, task in enumerate(tasks) if number != leaving]
    assert (len(answers), inner.cancelled, len(inner.calls)) == (2, 0, 1)


async def test_the_last_one_to_go_ends_the_work_and_hears_of_its_end() -> None:
    inner = Held()
    reranker = Coalesced(inner)
    tasks = [await start(reranker) for _ in range(3)]
    for task in tasks[:2]:
        task.cancel()
    await settle()
    assert inner.cancelled == 0
    tasks[2].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[2]
    assert inner.cancelled == 1
    assert not reranker._flights


async def test_who_comes_while_abandoned_work_ends_gets_work_of_his_own() -> None:
    inner = Held()
    reranker = Coalesced(inner)
    first = await start(reranker)
    first.cancel()
    await asyncio.sleep(0)
    second = await start(reranker)
    inner.go.set()
    assert (await second).model == "fake"
    assert (len(inner.calls), inner.cancelled) == (2, 1)


async def test_an_error_is_everybodys_and_each_has_his_own_copy() -> None:
    error = UpstreamUnavailable("It went away.", param="model", retry_after=3.0)
    inner = Held(error)
    reranker = Coalesced(inner)
    calls = [Call("one"), Call("two")]
    tasks = [await start(reranker, call=call) for call in calls]
    inner.go.set()
    caught = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(inner.calls) == 1
    for found, call in zip(caught, calls, strict=True):
        assert isinstance(found, UpstreamUnavailable)
        assert found is not error
        assert (found.message, found.param, found.retry_after) == ("It went away.", "model", 3.0)
        assert str(found) == "It went away."
        assert call.notes.attempts == 1
    assert caught[0] is not caught[1]


async def test_what_caused_an_error_stays_with_it() -> None:
    error = EngineError("It failed.")
    error.__cause__ = ZeroDivisionError()
    inner = Held(error)
    inner.go.set()
    with pytest.raises(EngineError) as caught:
        await Coalesced(inner).rerank(request_for(), Call("the-request"))
    assert caught.value.__cause__ is error.__cause__


async def test_an_error_that_nobody_waits_for_is_no_complaint() -> None:
    class Stubborn:
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                raise EngineError("It failed while it was ended.") from None
            raise AssertionError

    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    task = await start(Coalesced(Stubborn()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    await settle()
    assert complaints == []


async def test_a_short_deadline_ends_the_wait_of_its_caller_alone() -> None:
    inner = Held()
    reranker = Deadlined(Coalesced(inner))
    now = monotonic()
    long = asyncio.create_task(reranker.rerank(request_for(), Call("long", deadline=now + 5)))
    await settle()
    with pytest.raises(DeadlineExceeded):
        await reranker.rerank(request_for(), Call("short", deadline=now + 0.02))
    inner.go.set()
    assert (await long).model == "fake"
    assert (len(inner.calls), inner.cancelled) == (1, 0)


async def test_work_goes_on_past_its_first_callers_deadline_for_one_who_came_a_little_later() -> None:
    inner = Held()
    reranker = Deadlined(Coalesced(inner))
    now = monotonic()
    first = asyncio.create_task(reranker.rerank(request_for(), Call("1", deadline=now + 0.1)))
    await settle()
    later = asyncio.create_task(reranker.rerank(request_for(), Call("2", deadline=now + 0.108)))
    with pytest.raises(DeadlineExceeded):
        await first
    assert inner.cancelled == 0
    deadline = inner.calls[0].deadline
    assert deadline is not None
    assert now + 0.108 <= deadline <= now + 0.111
    inner.go.set()
    await later
    assert len(inner.calls) == 1


@pytest.mark.parametrize("later", [None, 5.0])
async def test_who_has_much_more_time_does_not_join_work_that_may_be_given_up(later: float | None) -> None:
    inner = Held()
    reranker = Coalesced(inner)
    now = monotonic()
    patient = Call("2", deadline=None if later is None else now + later)
    tasks = [await start(reranker, call=Call("1", deadline=now + 1)), await start(reranker, call=patient)]
    assert len(inner.calls) == 2
    tasks.append(await start(reranker, call=Call("3", deadline=now + 4)))
    assert len(inner.calls) == 2  # it joined the longer of the two
    inner.go.set()
    await asyncio.gather(*tasks)
    assert not reranker._flights


def test_two_event_loops_do_not_share_work() -> None:
    """One Reranker of Python's may be used from several."""
    inner = FakeReranker(seconds=0.01)
    reranker = Coalesced(inner)

    async def once() -> RerankResponse:
        return await reranker.rerank(request_for(), Call("the-request"))

    loop = asyncio.new_event_loop()
    pending = loop.create_task(once())
    loop.run_until_complete(asyncio.sleep(0))
    assert asyncio.run(once()).model == "fake"
    assert loop.run_until_complete(pending).model == "fake"
    loop.close()
    assert len(inner.asked) == 2


async def test_what_has_no_bytes_goes_through_alone() -> None:
    inner = Held()
    reranker = Coalesced(inner)
    tasks = [await start(reranker, request_for("half \ud800")) for _ in range(2)]
    inner.go.set()
    await asyncio.gather(*tasks)
    assert len(inner.calls) == 2
