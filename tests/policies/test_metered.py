from __future__ import annotations

import asyncio

import msgspec
import pytest

from rerankd.accounts import Caller, Entry
from rerankd.errors import DeadlineExceeded, ModelNotFound, RerankError, StoreUnavailable
from rerankd.policies.metered import Metered
from rerankd.policies.prices import Prices
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse, Usage
from tests.conftest import FakeReranker, request_for

NOW = 1_795_262_400.25


class FakeLedger:
    """Keeps rows; `record` fails, or waits until it is let go on, as it is told."""

    def __init__(self) -> None:
        self.recorded: list[Entry] = []
        self.noted: list[Entry] = []
        self.fails = False
        self.go = asyncio.Event()
        self.go.set()

    async def record(self, entry: Entry, *, others: bool = False) -> int:
        if self.fails:
            raise StoreUnavailable("It is full.")
        self.recorded.append(entry)
        await self.go.wait()
        return len(self.recorded)

    def note(self, entry: Entry) -> None:
        self.noted.append(entry)

    @property
    def visible(self) -> int:
        return len(self.recorded)


class Failing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        call.notes.attempts = 3
        raise self.error


class Remote:
    """Answers as a channel does."""

    def __init__(self, usage: Usage) -> None:
        self.usage = usage

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        answer = await FakeReranker("bge").rerank(request, call)
        call.notes.channel, call.notes.attempts = "jina", 2
        for stage, milliseconds in {"queue": 0.25, "tokenize": 1.5, "infer": 7.0, "upstream": 30.0004}.items():
            call.notes.took(stage, milliseconds)
        return RerankResponse(model=answer.model, results=answer.results, usage=self.usage)


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


def metered(inner: Reranker, ledger: FakeLedger) -> Metered:
    return Metered(inner, ledger, Prices({"bge": (20_000, 2_000_000)}), clock=lambda: NOW)


async def test_an_answer_is_a_row_of_all_that_came_of_it(ledger: FakeLedger) -> None:
    call = Call("the-request", caller=Caller(id="k1", name="me"))
    usage = Usage(prompt_tokens=1_000_000, cached_tokens=500_000, estimated=True, search_units=2)
    await metered(Remote(usage), ledger).rerank(request_for("a", "b", model="alias"), call)
    (row,) = ledger.recorded
    assert row == Entry(
        entry=row.entry, request_id="the-request", at=1_795_262_400_250, key_id="k1", model="bge", channel="jina",
        documents=2, status=200, tokens=1_000_000, cached_tokens=500_000, search_units=2, estimated=True, attempts=2,
        total_us=row.total_us, queue_us=250, tokenize_us=1500, infer_us=7000, upstream_us=30_000,
        price_tokens=20_000, price_searches=2_000_000, cost=14_000,
    )  # fmt: skip
    assert row.total_us > 0
    assert call.notes.sequence == 1
    assert ledger.noted == []


async def test_searches_that_nobody_counted_are_one_for_each_hundred_documents(ledger: FakeLedger, call: Call) -> None:
    """As callers of Cohere's formats are told."""
    await metered(Remote(Usage(prompt_tokens=7)), ledger).rerank(request_for(*"a" * 101), call)
    (row,) = ledger.recorded
    assert (row.search_units, row.cost) == (2, 4_000)


async def test_an_answer_waits_for_its_row(ledger: FakeLedger, call: Call) -> None:
    ledger.go.clear()
    asking = asyncio.create_task(metered(FakeReranker(), ledger).rerank(request_for(), call))
    while not ledger.recorded:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert not asking.done()
    ledger.go.set()
    await asking


async def test_an_answer_whose_row_cannot_be_written_is_not_given(ledger: FakeLedger, call: Call) -> None:
    ledger.fails = True
    with pytest.raises(StoreUnavailable):
        await metered(FakeReranker(), ledger).rerank(request_for(), call)
    assert call.notes.sequence is None


@pytest.mark.parametrize(
    ("error", "status", "code", "model"),
    [
        (DeadlineExceeded("It took too long."), 504, "deadline_exceeded", "bge"),
        (ModelNotFound("There is none."), 404, "model_not_found", ""),
        (ZeroDivisionError(), 500, "internal_error", "bge"),
    ],
)
async def test_what_fails_is_noted_and_costs_nothing(
    ledger: FakeLedger, call: Call, error: Exception, status: int, code: str, model: str
) -> None:
    with pytest.raises(type(error)):
        await metered(Failing(error), ledger).rerank(request_for(model="bge"), call)
    (row,) = ledger.noted
    assert (row.status, row.error, row.model, row.attempts) == (status, code, model, 3)
    assert (row.tokens, row.cost, row.documents) == (0, 0, 3)
    assert ledger.recorded == []


async def test_who_goes_away_before_the_answer_pays_nothing(ledger: FakeLedger, call: Call) -> None:
    asking = asyncio.create_task(metered(FakeReranker(seconds=5), ledger).rerank(request_for(), call))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (row,) = ledger.noted
    assert (row.status, row.error, row.cost) == (499, "cancelled", 0)


async def test_who_goes_away_while_the_row_is_written_has_it_and_the_notes_say_so(
    ledger: FakeLedger, call: Call
) -> None:
    ledger.go.clear()
    asking = asyncio.create_task(metered(FakeReranker(), ledger).rerank(request_for(), call))
    while not ledger.recorded:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.sleep(0)
    ledger.go.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len({row.entry for row in ledger.recorded}) == 1
    assert call.notes.sequence is not None
    assert ledger.noted == []


async def test_a_row_holds_no_text_and_no_more_than_its_columns_can(ledger: FakeLedger, call: Call) -> None:
    request = replace_query(request_for("canary-document", model="m\0\ud800" + "x" * 1000))
    error = RerankError("canary-message", param="canary-param")
    with pytest.raises(RerankError):
        await metered(Failing(error), ledger).rerank(request, msgspec.structs.replace(call, request_id="r" * 1000))
    (row,) = ledger.noted
    assert row.model == "m??" + "x" * 253
    assert row.request_id == "r" * 128
    assert "canary" not in repr(row)


def replace_query(request: RerankRequest) -> RerankRequest:
    return RerankRequest(query="canary-query", documents=request.documents, model=request.model)


async def test_an_answer_under_an_idempotency_key_is_completed_by_its_row(ledger: FakeLedger) -> None:
    call = Call("r", caller=Caller(id="k1", name="me"), idempotency_key="mine", holder="the-holder")
    await metered(FakeReranker(), ledger).rerank(request_for(), call)
    await metered(FakeReranker(), ledger).rerank(request_for(), msgspec.structs.replace(call, idempotency_key=None))
    done = ledger.recorded[0].completion
    assert done is not None
    assert (done.key_id, done.idempotency_key, done.holder) == ("k1", "mine", "the-holder")
    assert ledger.recorded[1].completion is None
