from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

import msgspec
import pytest

from rerankd.engine import scorer as scorers
from rerankd.engine.admission import Rate
from rerankd.engine.local import LocalReranker
from rerankd.engine.scheduler import Device
from rerankd.engine.scorer import Prepared, Scored, Watch
from rerankd.errors import BadRequest, DeadlineExceeded, EngineError, Overloaded, Refused
from rerankd.types import Call, Document, ModelCard, RerankRequest, ScoreKind
from tests.engine.fake_models import CARD, PATIENCE, Echo, EchoScorer, Gated, Panic

BARE = ModelCard(
    name="bare", family="test", score="logit", source="here", device="cpu", dtype="float32", max_length=8, listwise=True
)


class Says:
    """A scorer without a runner, which says what it is told to, or does what it is told to."""

    runner = None

    def __init__(self, answer: Callable[[], Scored], card: ModelCard = CARD) -> None:
        self.card = card
        self._answer = answer

    def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
        return Prepared((), lambda _: self._answer())


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device("test", max_wait=10.0)
    yield device
    assert len(device.admission) == 0, "a ticket was not given back"
    device.close()


@pytest.fixture
def gated(device: Device) -> Iterator[Gated]:
    runner = Gated(steps=5)
    yield runner
    runner.open()


def local(scorer: Any, device: Device, rate: float = 1000.0) -> LocalReranker:
    return LocalReranker(scorer, device, Rate(rate))


def asked(*documents: str, **options: Any) -> RerankRequest:
    texts = documents or ("1", "2")
    return RerankRequest(query="secret query", documents=tuple(map(Document, texts)), **options)


async def soon(waiting: Any) -> Any:
    return await asyncio.wait_for(waiting, PATIENCE)


async def test_scores_come_back_in_document_order_with_what_was_fed(device: Device) -> None:
    answer = await local(EchoScorer(Echo()), device).rerank(asked("3 0 0", "1", "2 0"), Call("r"))
    assert [(result.index, result.relevance_score) for result in answer.results] == [(0, 3.0), (1, 1.0), (2, 2.0)]
    assert (answer.model, answer.usage.prompt_tokens, answer.warnings) == ("m", 6, ())


async def test_a_model_without_a_runner_needs_no_device(device: Device) -> None:
    answer = await local(Says(lambda: Scored([0.1, 0.9], tokens=7)), device).rerank(asked(), Call("r"))
    assert [result.relevance_score for result in answer.results] == [0.1, 0.9]


async def test_texts_are_prepared_and_results_put_together_beside_the_event_loop(device: Device) -> None:
    ran: list[str] = []

    class Tells(EchoScorer):
        def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
            ran.append(threading.current_thread().name)
            prepared = super().prepare(request, watch)

            def finish(results: Sequence[Any]) -> Scored:
                ran.append(threading.current_thread().name)
                return prepared.finish(results)

            return Prepared(prepared.sequences, finish)

    await local(Tells(Echo()), device).rerank(asked(), Call("r"))
    await local(Tells(Echo()), device).rerank(asked("1 " * 10_000, *["1 " * 10_000] * 5000), Call("r"))
    assert [name.rpartition("_")[0] for name in ran] == ["rerankd-test-small"] * 2 + ["rerankd-test-large"] * 2


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
async def test_a_score_that_is_no_number_is_our_error(device: Device, score: float) -> None:
    with pytest.raises(EngineError, match="no number"):
        await local(Says(lambda: Scored([0.1, score], tokens=7)), device).rerank(asked(), Call("r"))


async def test_a_bug_is_logged_and_shown_without_its_text(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Scored:
        raise ValueError("the inner text")

    with caplog.at_level(logging.DEBUG), pytest.raises(EngineError) as caught:
        await local(Says(fails), device).rerank(asked(), Call("request-7"))
    assert "inner text" not in caught.value.message
    assert "request-7" in caught.value.message
    assert "inner text" in caplog.text
    assert "secret query" not in caplog.text


async def test_a_bug_leaves_the_next_request_unharmed(device: Device) -> None:
    def fails() -> Scored:
        raise ValueError

    with pytest.raises(EngineError):
        await local(Says(fails), device).rerank(asked(), Call("r"))
    assert (await local(Says(lambda: Scored([1, 2], 1)), device).rerank(asked(), Call("r"))).results


async def test_without_memory_for_its_texts_a_request_is_told_to_come_again(device: Device) -> None:
    def fails() -> Scored:
        raise MemoryError

    with pytest.raises(Overloaded) as caught:
        await local(Says(fails), device).rerank(asked(), Call("r"))
    assert caught.value.retry_after is not None


async def test_a_panic_in_the_tokenizer_is_an_error_of_this_request_alone(device: Device) -> None:
    def panics() -> Scored:
        raise Panic

    with pytest.raises(EngineError):
        await local(Says(panics), device).rerank(asked(), Call("r"))


async def test_what_the_client_did_wrong_reaches_it(device: Device) -> None:
    class Refuses(EchoScorer):
        def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
            raise BadRequest("Too long.", param="query")

    with pytest.raises(BadRequest):
        await local(Refuses(Echo()), device).rerank(asked(), Call("r"))


async def test_what_was_cut_is_told(device: Device) -> None:
    scored = Scored([1, 2], 9, truncated=[1], query_truncated=True)
    model = local(Says(lambda: scored), device)
    assert (await model.rerank(asked(), Call("r"))).warnings == (
        "1 of 2 documents cut to the model's 8 tokens: 1",
        "the query was cut to fit the model's 8 tokens",
    )
    assert (await model.rerank(asked(max_tokens_per_doc=3), Call("r"))).warnings[0] == (
        "1 of 2 documents cut to max_tokens_per_doc 3 or the model's 8 tokens: 1"
    )


async def test_of_many_documents_that_were_cut_ten_are_named(device: Device) -> None:
    scored = Scored([1.0] * 30, 9, truncated=range(30))
    answer = await local(Says(lambda: scored), device).rerank(asked(*["1"] * 30), Call("r"))
    assert answer.warnings == ("30 of 30 documents cut to the model's 8 tokens: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...",)


async def test_options_that_a_model_does_not_honour_are_told(device: Device) -> None:
    options = {"return_embeddings": True, "instruction": "Find answers.", "max_chunks_per_doc": 3}
    scored = Scored([1, 2], 9, warnings=["the model's own"])
    assert (await local(Says(lambda: scored, BARE), device).rerank(asked(**options), Call("r"))).warnings == (
        "the model's own",
        "return_embeddings: bare has no embeddings",
        "instruction: bare follows none",
        "max_chunks_per_doc: bare reads a document in one piece",
    )


async def test_embeddings_come_where_asked_for(device: Device) -> None:
    vectors = [(1.0, 0.0), (0.0, 1.0)]
    model = local(Says(lambda: Scored([1, 2], 9, embeddings=vectors)), device)
    wanted = await model.rerank(asked(return_embeddings=True), Call("r"))
    unwanted = await model.rerank(asked(return_embeddings=False), Call("r"))
    assert [result.embedding for result in wanted.results] == vectors
    assert [result.embedding for result in unwanted.results] == [None, None]


async def test_stages_and_channel_are_told(device: Device) -> None:
    call = Call("r")
    await local(EchoScorer(Echo()), device).rerank(asked(), call)
    assert {"queue", "infer"} <= set(call.notes.timings)
    assert call.notes.channel == "local"


async def test_a_request_that_would_wait_too_long_is_refused_before_its_texts_are_looked_at(
    device: Device, gated: Gated
) -> None:
    looked: list[str] = []

    class Tells(EchoScorer):
        def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
            looked.append(request.query)
            return super().prepare(request, watch)

    large = asked(*["1 0 0 0 0 0"] * 2000)  # 12,000 tokens at 1,000 a second
    model = local(Tells(gated), device)
    first = asyncio.create_task(model.rerank(large, Call("r")))
    await gated.reached()
    with pytest.raises(Overloaded) as caught:
        await model.rerank(large, Call("r"))
    assert caught.value.retry_after is not None
    assert 1.0 <= caught.value.retry_after <= 3.0, "12 s of work, of which 10 s may be waited"
    assert len(looked) == 1
    second = asyncio.create_task(model.rerank(asked("7"), Call("r")))
    gated.open()
    assert len((await soon(first)).results) == 2000
    assert (await soon(second)).results[0].relevance_score == 7.0, "a small one is let in"


async def test_a_cancelled_request_leaves_nothing_behind(device: Device, gated: Gated) -> None:
    model = local(EchoScorer(gated), device)
    running = asyncio.create_task(model.rerank(asked(), Call("r")))
    await gated.reached()
    queued = asyncio.create_task(model.rerank(asked(), Call("r")))
    while len(device.jobs) < 2:
        await asyncio.sleep(0.001)
    for task in (running, queued):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(task)
    assert device.jobs == set()
    assert len(device.admission) == 0
    gated.open()
    await soon(model.rerank(asked(), Call("r")))
    assert len(gated.batches) == 2, "what was queued is never computed"


async def test_nothing_is_prepared_for_a_request_whose_deadline_has_passed(device: Device) -> None:
    class Never(EchoScorer):
        def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
            raise AssertionError

    with pytest.raises(DeadlineExceeded):
        await local(Never(Echo()), device).rerank(asked(), Call("r", deadline=monotonic() - 1))


async def test_the_deadline_of_a_call_is_that_of_its_work(
    device: Device, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(scorers, "monotonic", lambda: now[0])
    task = asyncio.create_task(local(EchoScorer(gated), device).rerank(asked(), Call("r", deadline=100.0)))
    await gated.reached()
    now[0] = 101.0
    gated.let_go()
    with pytest.raises(DeadlineExceeded):
        await soon(task)
    assert gated.steps_taken == 1


async def test_priority_is_the_requests(device: Device, gated: Gated) -> None:
    model = local(EchoScorer(gated), device)
    tasks = [asyncio.create_task(model.rerank(asked("1"), Call("r")))]
    await gated.reached()
    for number, priority in ((2, "batch"), (3, "interactive")):
        tasks.append(asyncio.create_task(model.rerank(asked(f"{number}", priority=priority), Call("r"))))
        while len(device.jobs) < number:
            await asyncio.sleep(0.001)
    gated.open()
    await soon(asyncio.gather(*tasks))
    assert gated.batches == [[[1]], [[3]], [[2]]]


async def test_a_closed_engine_refuses(gated: Gated) -> None:
    device = Device("closed")
    model = local(EchoScorer(gated), device)
    running = asyncio.create_task(model.rerank(asked(), Call("r")))
    await gated.reached()
    closing = asyncio.create_task(asyncio.to_thread(device.close))
    with pytest.raises(Refused):
        await soon(running)
    gated.open()
    await soon(closing)
    with pytest.raises(Refused):
        await soon(model.rerank(asked(), Call("r")))


@pytest.mark.parametrize("fails", [False, True])
async def test_a_request_that_has_ended_is_let_go_of_without_a_collection(
    fails: bool, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("rerankd.engine"), "disabled", True)  # pytest keeps what is logged
    kept: list[weakref.ref[Any]] = []

    class Keeps(EchoScorer):
        def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
            prepared = super().prepare(request, watch)
            kept.append(weakref.ref(prepared.finish))
            return prepared

    model = local(Keeps(Echo(fails=lambda _: ValueError() if fails else None)), device)
    gc.collect()
    gc.disable()
    try:
        task = asyncio.create_task(model.rerank(asked(), Call("r")))
        await asyncio.wait({task}, timeout=PATIENCE)
        assert (task.exception() is not None) is fails
        del task
        end = monotonic() + PATIENCE
        while kept[0]() is not None:
            assert monotonic() < end
            await asyncio.sleep(0.001)
    finally:
        gc.enable()


async def test_a_models_trouble_is_its_devices(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    model = local(EchoScorer(Echo()), device)
    assert model.trouble is None
    monkeypatch.setattr(Device, "trouble", "stuck")
    assert model.trouble == "stuck"


@pytest.mark.parametrize(
    ("pair_tokens", "units"),
    [([1], 1), ([500] * 100, 1), ([501] * 50, 1), ([501] * 51, 2), ([0] * 101, 2), ([5001, 1], 1), (None, None)],
)
async def test_search_units_count_a_document_for_each_500_tokens_of_it_and_the_query(
    device: Device, pair_tokens: list[int] | None, units: int | None
) -> None:
    scorer = Says(lambda: Scored([0.1, 0.9], tokens=7, pair_tokens=pair_tokens))
    answer = await local(scorer, device).rerank(asked(), Call("r"))
    assert answer.usage.search_units == units


@pytest.mark.parametrize(
    ("score", "logits", "raw_scores", "warned"),
    [
        ("cosine", False, True, True),
        ("cosine", False, False, True),
        ("cosine", False, None, False),
        ("probability", False, True, True),
        ("probability", False, False, False),
        ("logit", False, True, False),
        ("probability", True, True, False),
        ("logit", True, False, False),
    ],
)
async def test_a_scale_that_the_model_does_not_have_is_said(
    device: Device, score: ScoreKind, logits: bool, raw_scores: bool | None, warned: bool
) -> None:
    card = msgspec.structs.replace(CARD, score=score, logits=logits)
    answer = await local(Says(lambda: Scored([0.1, 0.9], tokens=7), card), device).rerank(
        asked(raw_scores=raw_scores), Call("r")
    )
    assert any("raw_scores" in warning for warning in answer.warnings) is warned
