"""Whatever an upstream says or does, a caller gets the right answer of another channel, or a clean error in time.

Every lie is told in a few wire formats, and those that a codec has a part in are told in all of them. `SOAK=1` in the
environment tells every lie in every format.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable
from statistics import quantiles
from time import monotonic, process_time
from traceback import format_exception
from typing import Any

import msgspec
import pytest

from rerankd.channels.channel import Channel
from rerankd.channels.client import Client
from rerankd.channels.keys import KeyRing, Secret
from rerankd.channels.spec import ChannelSpec
from rerankd.dialects.base import Called
from rerankd.dialects.directory import CALLED
from rerankd.errors import (
    ClientError,
    DeadlineExceeded,
    Overloaded,
    RerankError,
    UpstreamError,
    UpstreamMalformed,
    UpstreamUnavailable,
)
from rerankd.policies.breaker import Breaker
from rerankd.policies.deadlined import Deadlined
from rerankd.policies.fallback import Choice, Fallback
from rerankd.policies.guarded import Guarded
from rerankd.policies.retried import Retried
from rerankd.policies.retry_budget import RetryBudget
from rerankd.policies.split import Split
from rerankd.policies.validated import Validated
from rerankd.reranker import Reranker
from rerankd.types import Call, Document, RerankRequest, RerankResponse
from tests.faults.hostile import Answer, Behaviour, Exchange, Upstream, in_turns, texts_for, true_score, truthful
from tests.faults.lies import CANARY, LIES, RIGHT, STATUSES, USAGE, Lie, refusing

KEY = "sk-canary-key-of-a-channel"
MODEL = "public-name"
FEW = ("jina", "tei", "dashscope", "deepinfra")
PATIENCE, SHORT = 5.0, 0.15
"""Seconds that a channel has, and that it has where an upstream takes them all."""
DEADLINE = 20.0
SCORES = (0.125, 0.875, 0.5, 0.25)
SOAKING = bool(os.environ.get("SOAK"))
MIB = 2**20
JINA = CALLED["jina"]

every_lie = pytest.mark.parametrize("lie", LIES.values(), ids=LIES)


def asked(*scores: float) -> RerankRequest:
    """A request for documents that have these scores."""
    documents = tuple(map(Document, texts_for(*(scores or SCORES))))
    return RerankRequest(query="which one?", documents=documents, model=MODEL, return_documents=True)


def formats(lie: Lie) -> Iterable[Called]:
    """Those in which a lie is told in this run."""
    told = CALLED if SOAKING or lie.key else FEW
    return [CALLED[name] for name in told if lie.applies(CALLED[name])]


def within(seconds: float = DEADLINE) -> Call:
    return Call("the-request", deadline=monotonic() + seconds)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    one = Client()
    yield one
    await one.close()


def channel(
    upstream: Upstream,
    client: Client,
    timeout: float = PATIENCE,
    name: str = "channel",
    clock: Callable[[], float] = monotonic,
) -> Channel:
    spec = ChannelSpec(
        name=name,
        dialect=upstream.dialect.name,
        base_url=upstream.url,
        keys=(Secret(KEY),),
        models={MODEL: "their-name"},
        timeout=timeout,
        allow_private=True,
    )
    return Channel(spec, client, upstream.dialect, KeyRing(spec.keys, clock))


def guarded(inner: Reranker, breaker: Breaker | None = None, budget: RetryBudget | None = None) -> Reranker:
    """A channel with all that stands around it."""
    around = breaker or Breaker()
    return Guarded(Retried(Validated(inner), budget or RetryBudget(), around, sleep=_no_time), around)


async def _no_time(seconds: float) -> None:
    """Between two calls to one upstream."""
    await asyncio.sleep(0)


def gateway(*asked_in_turn: Reranker) -> Reranker:
    """The one that is asked first, and those that are asked where it fails."""
    choices = [Choice(f"choice {place}", -place, 1.0, one) for place, one in enumerate(asked_in_turn)]
    return Deadlined(Fallback(choices))


def told(lie: Lie, dialect: Called) -> Upstream:
    return Upstream(dialect, lie.tell, listens=lie.listens, scheme=lie.scheme)


def check_right(answer: RerankResponse, request: RerankRequest) -> None:
    """Every document of the request, once, with its own text and score, best first."""
    assert [result.index for result in answer.results] == sorted(
        range(len(request.documents)), key=lambda place: (-true_score(request.documents[place].text), place)
    )
    for result in answer.results:
        assert result.document == request.documents[result.index]
        assert result.relevance_score == true_score(request.documents[result.index].text)
    assert answer.model == MODEL
    assert 0 < answer.usage.prompt_tokens < 1000
    assert answer.usage.cached_tokens >= 0
    assert CANARY not in str(answer)


def check_clean(error: BaseException) -> None:
    """Ours, finite, and nothing in it of what an upstream said or of what was sent to it."""
    assert isinstance(error, RerankError), repr(error)
    assert CANARY not in str(error)
    assert CANARY not in error.message
    assert KEY not in "".join(format_exception(error))
    assert error.retry_after is None or 0 <= error.retry_after <= 3600


async def ending(work: Reranker, request: RerankRequest, call: Call) -> RerankResponse | BaseException:
    try:
        answer = await work.rerank(request, call)
    except Exception as error:
        check_clean(error)
        return error
    check_right(answer, request)
    return answer


async def every(works: Iterable[tuple[str, Any]]) -> None:
    """All at once; a failure says in which format it was."""
    named = list(works)
    ends = await asyncio.gather(*(work for _, work in named), return_exceptions=True)
    for (name, _), end in zip(named, ends, strict=True):
        if isinstance(end, BaseException):
            raise AssertionError(f"in {name}: {end}") from end


def may_end_in(lie: Lie, end: RerankResponse | BaseException) -> bool:
    if isinstance(end, RerankResponse):
        return RIGHT in lie.ends
    return isinstance(end, tuple(kind for kind in lie.ends if kind is not RIGHT))


# --- rows 34 to 39: every lie ---------------------------------------------------------------------------------------


@every_lie
async def test_one_channel_meets_a_lie_with_the_right_answer_or_with_the_right_error(lie: Lie, client: Client) -> None:
    async def meet(dialect: Called) -> None:
        async with told(lie, dialect) as hostile:
            alone = Validated(channel(hostile, client, SHORT if lie.slow else PATIENCE))
            end = await ending(alone, asked(), within())
            assert may_end_in(lie, end), f"{end!r} is none of {lie.ends}"

    await every((dialect.name, meet(dialect)) for dialect in formats(lie))


@every_lie
async def test_a_lie_is_answered_rightly_by_the_next_channel_or_blamed_on_the_caller_who_is_to_blame(
    lie: Lie, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def survive(dialect: Called) -> None:
        async with told(lie, dialect) as hostile, Upstream(dialect) as healthy:
            first = guarded(channel(hostile, client, SHORT if lie.slow else PATIENCE, "hostile"))
            call = within()
            end = await ending(gateway(first, guarded(channel(healthy, client, name="healthy"))), asked(), call)
            assert call.notes.attempts <= 3
            if isinstance(end, RerankResponse):
                assert call.notes.channel in ("hostile", "healthy")
                assert call.notes.channel == "healthy" or RIGHT in lie.ends
            else:
                assert isinstance(end, ClientError)
                assert may_end_in(lie, end), repr(end)
                assert not healthy.asked

    await every((dialect.name, survive(dialect)) for dialect in formats(lie))
    assert KEY not in caplog.text


@pytest.mark.parametrize("name", [name for name in LIES if LIES[name].ends == (RIGHT,)])
async def test_what_does_no_harm_needs_no_second_channel(name: str, client: Client) -> None:
    async with told(LIES[name], JINA) as odd, Upstream(JINA) as healthy:
        call = within()
        work = gateway(guarded(channel(odd, client, name="odd")), guarded(channel(healthy, client)))
        check_right(await work.rerank(asked(), call), asked())
        assert (call.notes.channel, call.notes.attempts, healthy.asked) == ("odd", 1, [])


def test_there_are_forty_lies_and_more_in_every_format() -> None:
    for dialect in CALLED.values():
        assert len([lie for lie in LIES.values() if lie.applies(dialect)]) >= 40


async def test_where_every_channel_lies_the_caller_hears_so_in_our_own_words(client: Client) -> None:
    lie = LIES["a score of NaN"]
    async with told(lie, JINA) as one, told(lie, JINA) as two:
        with pytest.raises(UpstreamError) as caught:
            await gateway(guarded(channel(one, client)), guarded(channel(two, client))).rerank(asked(), within())
    check_clean(caught.value)
    assert caught.value.status == 502


async def test_what_is_asked_of_an_upstream_is_its_name_for_the_model_the_key_and_no_documents_back(
    client: Client,
) -> None:
    async with Upstream(JINA) as upstream:
        await Validated(channel(upstream, client)).rerank(asked(), within())
        [one] = upstream.asked
    body = msgspec.json.decode(one.body)
    assert one.target == "/v1/rerank"
    assert one.headers["authorization"] == f"Bearer {KEY}"
    assert body["model"] == "their-name"
    assert body["return_documents"] is False


async def test_a_redirect_is_not_followed_and_a_cookie_is_not_kept(client: Client) -> None:
    async with Upstream(JINA) as other, Upstream(JINA) as upstream:
        upstream.behaviour = refusing(307, {"location": other.url, "set-cookie": "a=b; path=/"})
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await Validated(channel(upstream, client)).rerank(asked(), within())
        assert other.asked == []
        assert ["cookie" in one.headers for one in upstream.asked] == [False, False]


@pytest.mark.parametrize("pause", [0.0, 0.03], ids=["at once", "later"])
async def test_an_answer_that_nobody_asked_for_is_not_the_answer_to_the_next_request(
    pause: float, client: Client
) -> None:
    async def twice(exchange: Exchange) -> None:
        """On a connection that is kept, with another model's scores the second time."""
        kept = {"connection": "keep-alive"}
        answer = exchange.answer()
        await exchange.send(answer.encode(), headers=kept)
        await asyncio.sleep(pause)
        _shift(answer, 100)
        await exchange.send(answer.encode(), headers=kept)
        await exchange.hang()

    async with Upstream(JINA, in_turns([twice])) as upstream:
        for _ in range(2):
            check_right(await guarded(channel(upstream, client)).rerank(asked(), within()), asked())
            await asyncio.sleep(2 * pause)


async def test_a_connection_that_was_kept_and_breaks_when_it_is_used_again_costs_no_answer(client: Client) -> None:
    async def kept_and_reset(exchange: Exchange) -> None:
        answer = exchange.answer()
        await exchange.send(answer.encode(), headers={"connection": "keep-alive"})
        await exchange.reader.read(1)
        await exchange.reset()

    async with Upstream(JINA, in_turns([kept_and_reset])) as upstream:
        for _ in range(2):
            check_right(await guarded(channel(upstream, client)).rerank(asked(), within()), asked())


# --- row 35: time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LIES if LIES[name].slow])
async def test_an_upstream_that_stalls_is_given_up_at_the_callers_deadline(name: str, client: Client) -> None:
    lie = LIES[name]
    late = []
    async with told(lie, JINA) as hostile:
        for _ in range(3):  # the best of three, since a busy machine is late by itself
            started = monotonic()
            with pytest.raises((DeadlineExceeded, UpstreamError)):
                await Deadlined(guarded(channel(hostile, client))).rerank(asked(), within(0.2))
            late.append(monotonic() - started - 0.2)
    assert min(late) <= 0.05


async def test_a_caller_who_goes_away_takes_the_call_to_the_upstream_with_him(client: Client) -> None:
    gone = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await exchange.hang()
        gone.set()

    async with Upstream(JINA, wait) as hostile:
        work = asyncio.create_task(guarded(channel(hostile, client)).rerank(asked(), within()))
        while not hostile.asked:
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await asyncio.wait_for(gone.wait(), 1)


# --- row 39: usage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", USAGE)
async def test_a_usage_that_cannot_be_is_replaced_by_our_own_estimate(name: str, client: Client) -> None:
    async with told(LIES[name], JINA) as odd, told(LIES["no usage"], JINA) as silent:
        estimate = (await Validated(channel(silent, client)).rerank(asked(), within())).usage
        assert estimate.estimated
        try:
            usage = (await Validated(channel(odd, client)).rerank(asked(), within())).usage
        except UpstreamMalformed:
            assert RIGHT not in LIES[name].ends or UpstreamMalformed in LIES[name].ends
        else:
            assert usage.prompt_tokens == estimate.prompt_tokens
            assert usage.estimated


# --- rows 40 and 41: refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "rest"), [({}, 5.0), ({"retry-after": "30"}, 30.0), ({"retry-after": "3600"}, 3600.0)]
)
async def test_an_upstream_that_is_busy_is_not_called_before_its_time(
    header: dict[str, str], rest: float, client: Client
) -> None:
    clock = Clock()
    async with Upstream(JINA, refusing(429, header)) as busy, Upstream(JINA) as healthy:
        breaker = Breaker(clock=clock)
        work = gateway(guarded(channel(busy, client, clock=clock), breaker), guarded(channel(healthy, client)))
        for _ in range(20):
            check_right(await work.rerank(asked(), within()), asked())
        assert len(busy.asked) == 1
        assert breaker.state.status == "resting"
        clock.now += rest - 0.1
        await work.rerank(asked(), within())
        assert len(busy.asked) == 1
        clock.now += 0.2
        await work.rerank(asked(), within())
        assert len(busy.asked) == 2
        assert breaker.state.failures == 0


async def test_where_all_are_busy_the_caller_is_told_when_to_come_back(client: Client) -> None:
    thirty, twenty = (refusing(429, {"retry-after": seconds}) for seconds in ("30", "20"))
    async with Upstream(JINA, thirty) as one, Upstream(JINA, twenty) as two:
        work = gateway(guarded(channel(one, client)), guarded(channel(two, client)))
        with pytest.raises(Overloaded) as caught:
            await work.rerank(asked(), within())
    assert caught.value.retry_after == pytest.approx(20, abs=1)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_is_tried_once_a_minute_at_most(status: int, client: Client) -> None:
    clock = Clock()
    async with Upstream(JINA, refusing(status)) as refusing_one, Upstream(JINA) as healthy:
        breaker = Breaker(clock=clock)
        first = guarded(channel(refusing_one, client, clock=clock), breaker)
        work = gateway(first, guarded(channel(healthy, client)))
        for _ in range(50):
            check_right(await work.rerank(asked(), within()), asked())
            clock.now += 6
        assert 1 <= len(refusing_one.asked) <= 5
        assert breaker.state.status == "needs a person"


@pytest.mark.parametrize("status", [status for status, (kind, *_) in STATUSES.items() if issubclass(kind, ClientError)])
async def test_a_callers_mistakes_never_close_a_channel_to_others(status: int, client: Client) -> None:
    async with Upstream(JINA, in_turns([refusing(status)] * 30)) as upstream:
        breaker = Breaker()
        work = guarded(channel(upstream, client), breaker)
        for _ in range(30):
            with pytest.raises(ClientError):
                await work.rerank(asked(), within())
        assert breaker.state.status == "closed"
        check_right(await work.rerank(asked(), within()), asked())


# --- row 42: size ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a gzip bomb", "an answer of 10 MB", "an answer without end", "a million results"])
async def test_an_answer_without_measure_takes_no_more_than_twenty_megabytes(name: str, client: Client) -> None:
    async with told(LIES[name], JINA) as hostile:
        work = Validated(channel(hostile, client))
        with pytest.raises(UpstreamError):  # what is made once is made here
            await work.rerank(asked(), within())
        tracemalloc.start()
        try:
            with pytest.raises(UpstreamError):
                await work.rerank(asked(), within())
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most <= 20 * MIB


# --- rows 43 to 45: outages -----------------------------------------------------------------------------------------


async def test_in_an_outage_the_answer_is_fast_and_one_call_in_ten_seconds_goes_out(client: Client) -> None:
    clock = Clock()
    async with Upstream(JINA, refusing(503)) as dead:
        breaker = Breaker(clock=clock)
        work = gateway(guarded(channel(dead, client), breaker))
        for _ in range(5):
            with pytest.raises(UpstreamError):
                await work.rerank(asked(), within())
        assert breaker.state.status == "open"
        before = len(dead.asked)
        took = []
        for _ in range(200):
            started = process_time()
            with pytest.raises((UpstreamError, Overloaded)):
                await work.rerank(asked(), within())
            took.append(process_time() - started)
            clock.now += 0.045  # 9 s for all of them
        assert len(dead.asked) == before
        assert quantiles(took, n=100)[98] <= 0.01
        clock.now += 1.1
        for _ in range(5):
            with pytest.raises((UpstreamError, Overloaded)):
                await work.rerank(asked(), within())
        assert 1 <= len(dead.asked) - before <= 2  # a probe, which may be tried once more


async def test_retries_in_a_brownout_add_a_tenth_at_most(client: Client) -> None:
    requests = 400
    behaviours = [refusing(503) if place % 10 in (1, 4, 8) else truthful for place in range(2 * requests)]
    async with Upstream(JINA, in_turns(behaviours)) as browning:
        work = Retried(Validated(channel(browning, client)), RetryBudget(), Breaker(), sleep=_no_time)
        at_once = asyncio.Semaphore(20)

        async def one() -> None:
            async with at_once:
                await ending(work, asked(), within())

        await asyncio.gather(*(one() for _ in range(requests)))
        assert requests < len(browning.asked) <= 1.1 * requests + 3


async def test_what_has_recovered_is_probed_by_one_and_then_used_by_all(client: Client) -> None:
    clock = Clock()
    healthy = False

    async def sometimes(exchange: Exchange) -> None:
        await asyncio.sleep(0.02)
        await (truthful if healthy else refusing(503))(exchange)

    async with Upstream(JINA, sometimes) as upstream:
        breaker = Breaker(clock=clock)
        work = guarded(channel(upstream, client), breaker)
        for _ in range(5):
            with pytest.raises(UpstreamError):
                await work.rerank(asked(), within())
        assert breaker.state.status == "open"
        healthy = True
        clock.now += 11
        before = len(upstream.asked)
        crowd = await asyncio.gather(*(ending(work, asked(), within()) for _ in range(30)))
        assert len(upstream.asked) == before + 1
        assert len([end for end in crowd if isinstance(end, RerankResponse)]) == 1
        assert {type(end) for end in crowd if isinstance(end, RerankError)} == {UpstreamUnavailable}
        crowd = await asyncio.gather(*(ending(work, asked(), within()) for _ in range(30)))
        assert all(isinstance(end, RerankResponse) for end in crowd)


# --- row 46: mixed scores -------------------------------------------------------------------------------------------


def shifted(by: float) -> Behaviour:
    """The scores of another model."""

    async def tell(exchange: Exchange) -> None:
        answer = exchange.answer()
        _shift(answer, by)
        await exchange.send(answer.encode())

    return tell


def _shift(answer: Answer, by: float) -> None:
    for place, result in enumerate(answer.results):
        answer.put_score(place, result["relevance_score"] + by)


@pytest.mark.parametrize("failing", range(4))
async def test_scores_of_two_models_are_never_in_one_answer(failing: int, client: Client) -> None:
    scores = tuple(place / 16 for place in range(16))
    behaviours = [refusing(500) if place == failing else shifted(100) for place in range(4)]
    async with Upstream(JINA, in_turns(behaviours, refusing(500))) as half, Upstream(JINA) as healthy:
        parts = Split(guarded(channel(half, client)), 4, None)
        work = gateway(parts, Split(guarded(channel(healthy, client)), 4, None))
        call = within()
        answer = await Validated(work).rerank(asked(*scores), call)
    check_right(answer, asked(*scores))
    assert half.asked
