from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from rerankd.accounts import Caller, Entry
from rerankd.dialects.directory import DIALECTS
from rerankd.errors import BadRequest, Conflict, IdempotencyMismatch, StoreUnavailable, UpstreamError
from rerankd.policies.idempotent import (
    LONGEST,
    Idempotent,
    as_first_given,
    completion_of,
    digest_of,
    idempotency_key_of,
)
from rerankd.policies.metered import Metered
from rerankd.policies.prices import Prices
from rerankd.reranker import Reranker
from rerankd.store.database import Database
from rerankd.store.idempotency import InDatabase, StoredClaims
from rerankd.store.ledger import StoredLedger
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import FakeReranker, request_for

ANN, BOB = Caller(id="ann", name="Ann"), Caller(id="bob", name="Bob")
FOREVER = 60.0


def call_of(caller: Caller | None = ANN, key: str | None = "key", request_id: str = "first", created: int = 1) -> Call:
    return Call(request_id, created=created, caller=caller, idempotency_key=key)


class Place:
    """Claims and a ledger in one file, as the server has them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        database = Database(f"sqlite:///{file}")
        self.ledger = StoredLedger(database, file.with_name("spool"))
        self.ledgers = [self.ledger]
        self.claims = StoredClaims(InDatabase(database), ledger=self.ledger)

    async def close(self) -> None:
        await self.ledger.stop()
        await asyncio.to_thread(self.ledger.close)

    def around(self, inner: Reranker) -> Idempotent:
        return Idempotent(Metered(inner, self.ledger, Prices()), self.claims)

    async def charged(self) -> list[tuple[str, int]]:
        """Whose answers are in the ledger, and their tokens."""
        for ledger in self.ledgers:
            assert await ledger.settled(FOREVER)
        with sqlite3.connect(self.file) as connection:
            rows = connection.execute("SELECT key_id, tokens FROM ledger WHERE status = 200").fetchall()
        connection.close()
        return rows


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    file = tmp_path / "rerankd.db"
    await Database(f"sqlite:///{file}").upgrade()
    place = Place(file)
    await place.ledger.open()
    yield place
    await place.close()


@pytest.fixture
async def beside(place: Place) -> AsyncIterator[Place]:
    """Another process, which uses the same file."""
    beside = Place(place.file)
    place.ledgers.append(beside.ledger)
    await beside.ledger.open()
    yield beside
    await beside.close()


class Ranker:
    """Another answer each time: what comes again unchanged was kept."""

    def __init__(self) -> None:
        self.worked = 0

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self.worked += 1
        call.notes.channel = "the-channel"
        return RerankResponse(
            model="the-model",
            results=tuple(
                Result(
                    index,
                    1 / (3 * self.worked) - index,
                    document if request.return_documents else None,
                    (0.1 / self.worked, float(index)) if request.return_embeddings else None,
                )
                for index, document in enumerate(request.documents)
            ),
            usage=Usage(prompt_tokens=7 + self.worked, cached_tokens=self.worked, search_units=self.worked),
            warnings=("1 of 2 documents cut to the model's 512 tokens: 1",),
        )


@pytest.mark.parametrize("name", DIALECTS)
async def test_the_same_request_gets_the_same_body_bit_for_bit(place: Place, name: str) -> None:
    dialect, inner = DIALECTS[name], Ranker()
    request = RerankRequest(
        query="q",
        documents=(Document("a", {"text": "a", "title": "A"}), Document("b")),
        model="m",
        return_documents=True,
        return_embeddings=True,
    )
    first, again = call_of(), call_of(request_id="again", created=2)
    bodies = [
        dialect.render_response(await place.around(inner).rerank(request, call), request, as_first_given(call))
        for call in (first, again)
    ]
    assert bodies[0] == bodies[1]
    assert (first.notes.replayed, again.notes.replayed, again.notes.channel) == (False, True, "the-channel")
    assert (inner.worked, await place.charged()) == (1, [("ann", 8)])


async def test_another_request_under_the_key_is_refused(place: Place) -> None:
    reranker = place.around(Ranker())
    await reranker.rerank(request_for("a"), call_of())
    with pytest.raises(IdempotencyMismatch) as refused:
        await reranker.rerank(request_for("b"), call_of())
    assert refused.value.status == 422
    assert len(await place.charged()) == 1


async def test_two_callers_never_see_each_others_answers(place: Place) -> None:
    inner = Ranker()
    reranker = place.around(inner)
    answers = [await reranker.rerank(request_for(), call_of(caller)) for caller in (ANN, BOB, ANN, BOB)]
    assert answers[0] != answers[1]
    assert answers[:2] == answers[2:]
    assert Counter(key for key, _ in await place.charged()) == {"ann": 1, "bob": 1}


@pytest.mark.parametrize("call", [call_of(key=None), call_of(caller=None)], ids=["without a key", "in open mode"])
async def test_who_asks_for_nothing_of_it_is_handed_on_as_he_came(call: Call) -> None:
    class Nobody:
        async def claim(self, key_id: str, idempotency_key: str, asked: bytes, holder: str, seconds: float) -> bytes:
            raise AssertionError

        async def release(self, key_id: str, idempotency_key: str, holder: str) -> None:
            raise AssertionError

    class Seen:
        async def rerank(self, request: RerankRequest, seen: Call) -> RerankResponse:
            assert seen is call
            return await FakeReranker().rerank(request, seen)

    await Idempotent(Seen(), Nobody()).rerank(request_for(), call)


async def test_of_a_hundred_at_once_one_is_worked_on_and_one_is_charged(place: Place, beside: Place) -> None:
    inner = FakeReranker(seconds=2.0)
    here, there = place.around(inner), beside.around(inner)

    async def outcome(number: int) -> str:
        call = call_of(request_id=f"request-{number}")
        try:
            await (there if number % 2 else here).rerank(request_for(), call)
        except Conflict as refused:
            return f"{refused.status}, retry after {refused.retry_after}"
        return "replayed" if call.notes.replayed else "worked"

    outcomes = Counter(await asyncio.gather(*(outcome(number) for number in range(100))))
    assert outcomes["worked"] == 1
    assert outcomes["409, retry after 1.0"] > 0
    assert outcomes["worked"] + outcomes["replayed"] + outcomes["409, retry after 1.0"] == 100
    assert await outcome(100) == "replayed"
    assert (len(inner.asked), await place.charged()) == (1, [("ann", 7)])


async def test_what_failed_is_worked_on_again(place: Place) -> None:
    class Once:
        failed = False

        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            if self.failed:
                return await FakeReranker().rerank(request, call)
            self.failed = True
            raise UpstreamError("It failed.")

    reranker = place.around(Once())
    with pytest.raises(UpstreamError):
        await reranker.rerank(request_for(), call_of())
    again = call_of()
    await reranker.rerank(request_for(), again)
    assert not again.notes.replayed
    assert len(await place.charged()) == 1


async def test_who_hung_up_while_it_was_worked_on_gets_a_fresh_try(place: Place) -> None:
    inner = FakeReranker(seconds=FOREVER)
    gone = asyncio.create_task(place.around(inner).rerank(request_for(), call_of()))
    while not inner.asked:
        await asyncio.sleep(0.001)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    again = call_of()
    await place.around(FakeReranker()).rerank(request_for(), again)
    assert not again.notes.replayed
    assert len(await place.charged()) == 1


class Held:
    """Claims or a ledger whose every act takes until it is `let_go`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()
        self.visible = 0

    async def claim(self, key_id: str, idempotency_key: str, asked: bytes, holder: str, seconds: float) -> bytes | None:
        await self._hold()
        return await self._place.claims.claim(key_id, idempotency_key, asked, holder, seconds)

    async def release(self, key_id: str, idempotency_key: str, holder: str) -> None:
        await self._place.claims.release(key_id, idempotency_key, holder)

    async def record(self, entry: Entry, *, others: bool = False) -> int:
        await self._hold()
        return await self._place.ledger.record(entry)

    def note(self, entry: Entry) -> None:
        self._place.ledger.note(entry)

    async def _hold(self) -> None:
        self.begun.set()
        await self.let_go.wait()


async def cancelled_while(held: Held, reranker: Reranker) -> None:
    gone = asyncio.create_task(reranker.rerank(request_for(), call_of()))
    await held.begun.wait()
    await cancelled(held, gone)


async def cancelled(held: Held, gone: asyncio.Task[RerankResponse]) -> None:
    gone.cancel()
    await asyncio.sleep(0)
    held.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_who_hung_up_while_the_claim_was_made_leaves_none_behind(place: Place) -> None:
    held, inner = Held(place), FakeReranker()
    await cancelled_while(held, Idempotent(Metered(inner, place.ledger, Prices()), held))
    assert not inner.asked
    await place.around(inner).rerank(request_for(), call_of())


async def test_who_hung_up_while_the_ledger_wrote_gets_the_finished_answer_and_one_charge(place: Place) -> None:
    held, inner = Held(place), Ranker()
    await cancelled_while(held, Idempotent(Metered(inner, held, Prices()), place.claims))
    again = call_of()
    await place.around(inner).rerank(request_for(), again)
    assert again.notes.replayed
    assert (inner.worked, len(await place.charged())) == (1, 1)


async def test_an_answer_that_the_ledger_still_has_on_its_way_keeps_the_claim_for_it(place: Place) -> None:
    class Spooled(Held):
        async def record(self, entry: Entry, *, others: bool = False) -> int:
            return await super().record(msgspec.structs.replace(entry, completion=None))

    held = Spooled(place)
    await cancelled_while(held, Idempotent(Metered(Ranker(), held, Prices()), place.claims))
    with pytest.raises(Conflict):
        await place.around(Ranker()).rerank(request_for(), call_of())


async def test_a_second_cancellation_does_not_keep_the_claim_from_being_released(place: Place) -> None:
    class Slow(Held):
        async def claim(self, key_id: str, idempotency_key: str, asked: bytes, holder: str, seconds: float) -> None:
            await place.claims.claim(key_id, idempotency_key, asked, holder, seconds)

        async def release(self, key_id: str, idempotency_key: str, holder: str) -> None:
            await self._hold()
            await super().release(key_id, idempotency_key, holder)

    slow, inner = Slow(place), FakeReranker(seconds=FOREVER)
    gone = asyncio.create_task(Idempotent(inner, slow).rerank(request_for(), call_of()))
    while not inner.asked:
        await asyncio.sleep(0.001)
    gone.cancel()
    await slow.begun.wait()
    await cancelled(slow, gone)
    await place.around(FakeReranker()).rerank(request_for(), call_of())


async def test_without_the_database_nothing_is_worked_on() -> None:
    inner = FakeReranker()
    with pytest.raises(StoreUnavailable):
        await Idempotent(inner, Away()).rerank(request_for(), call_of())
    assert not inner.asked


class Away:
    """A database that is away: from the start, or after `claims`."""

    def __init__(self, claims: int = 0) -> None:
        self._left = claims

    async def claim(self, key_id: str, idempotency_key: str, asked: bytes, holder: str, seconds: float) -> bytes | None:
        if not self._left:
            raise StoreUnavailable("The database is away.")
        self._left -= 1
        return None

    async def release(self, key_id: str, idempotency_key: str, holder: str) -> None:
        raise StoreUnavailable("The database is away.")


async def test_a_claim_that_cannot_be_released_changes_no_error_and_is_logged_without_its_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing:
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            raise UpstreamError("It failed.")

    with caplog.at_level(logging.DEBUG), pytest.raises(UpstreamError, match="It failed"):
        await Idempotent(Failing(), Away(claims=1)).rerank(request_for(), call_of(key="canary"))
    assert "request first: its idempotency key stays taken" in caplog.text
    assert "canary" not in caplog.text


def test_an_answer_that_nobody_claimed_is_not_kept() -> None:
    answer = RerankResponse(model="m", results=(), usage=Usage(prompt_tokens=1))
    assert completion_of(request_for(), answer, call_of()) is None
    completion = completion_of(request_for(), answer, msgspec.structs.replace(call_of(), holder="me"))
    assert completion is not None
    assert (completion.key_id, completion.idempotency_key, completion.holder) == ("ann", "key", "me")


def test_the_digest_is_of_all_that_was_asked_for() -> None:
    asked = RerankRequest(query="q", documents=(Document("a", {"text": "a", "n": 2**70}),))
    others = [
        msgspec.structs.replace(asked, **{name: value})
        for name, value in {
            "query": "Q",
            "documents": (Document("a"),),
            "model": "m",
            "top_n": 1,
            "return_documents": True,
            "return_embeddings": True,
            "instruction": "i",
            "max_tokens_per_doc": 1,
            "max_chunks_per_doc": 1,
            "overlap_tokens": 1,
            "truncation": False,
            "raw_scores": True,
            "priority": "batch",
            "unread": ("seed",),
        }.items()
    ]
    assert len(others) == len(RerankRequest.__struct_fields__)
    assert len({digest_of(request) for request in (asked, *others)}) == 1 + len(others)
    assert digest_of(asked) == digest_of(
        RerankRequest(query="q", documents=(Document("a", {"n": 2**70, "text": "a"}),))
    )


def test_half_a_character_is_refused_where_a_digest_is_needed() -> None:
    with pytest.raises(BadRequest, match="Unicode"):
        digest_of(request_for("\ud800"))


@pytest.mark.parametrize("value", [None, "a", "8e03978e-40d5-43dd-bc93-6894a57f9324", '"!~"', "k" * LONGEST])
def test_a_decent_key_is_taken_as_it_is(value: str | None) -> None:
    assert idempotency_key_of(value) == value


@pytest.mark.parametrize("value", ["", " ", "a b", "a\n", "\x7f", "é", "k" * (LONGEST + 1)])
def test_another_one_is_refused_without_being_repeated(value: str) -> None:
    with pytest.raises(BadRequest, match="1 to 255 visible ASCII characters") as refused:
        idempotency_key_of(value)
    assert refused.value.param == "idempotency-key"
    assert not value.strip() or value not in str(refused.value)
