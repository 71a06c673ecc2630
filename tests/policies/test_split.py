from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.errors import BadRequest, UpstreamMalformed, UpstreamUnavailable
from rerankd.policies.split import AT_ONCE, WARNINGS_SHOWN, Split, cautious_tokens
from rerankd.policies.validated import Validated
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result
from tests.conftest import FakeReranker
from tests.policies.pairs import LIMIT, PairModel, asking

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@given(
    st.lists(st.text(LETTERS, max_size=LIMIT), min_size=1, max_size=30),
    st.none() | st.integers(1, 7),
    st.none() | st.integers(1, 12),
    st.none() | st.integers(1, 31),
    st.booleans(),
)
async def test_a_split_request_gets_the_answer_that_it_would_get_unsplit(
    documents: list[str], max_documents: int | None, max_tokens: int | None, top_n: int | None, back: bool
) -> None:
    request = msgspec.structs.replace(asking(documents), top_n=top_n, return_documents=back)
    model = PairModel()
    answer = await Validated(Split(model, max_documents, max_tokens)).rerank(request, Call("the-request"))
    whole = await Validated(PairModel()).rerank(request, Call("the-request"))
    assert (answer.model, answer.results, answer.warnings) == (whole.model, whole.results, ())
    assert answer.usage.prompt_tokens == whole.usage.prompt_tokens
    assert answer.usage.search_units == len(model.asked)
    assert [text for part in model.asked for text in part] == documents
    assert all(model.asked)
    for part in model.asked:
        assert max_documents is None or len(part) <= max_documents
        cost = sum(cautious_tokens("q") + cautious_tokens(text) for text in part)
        assert max_tokens is None or cost <= max_tokens or len(part) == 1


async def test_a_request_that_fits_is_passed_on_as_it_is(call: Call) -> None:
    inner = FakeReranker()
    request = msgspec.structs.replace(asking(["a", "b"]), top_n=1, return_documents=True)
    await Split(inner, 2, None).rerank(request, call)
    assert inner.asked == [request]


async def test_parts_are_as_full_as_they_may_be_and_ask_for_everything(call: Call) -> None:
    model = PairModel()
    request = msgspec.structs.replace(asking(list("abcde")), top_n=1, return_documents=True)
    await Split(model, 2, None).rerank(request, call)
    assert model.requests == [asking(["a", "b"]), asking(["c", "d"]), asking(["e"])]


@dataclass
class Slow:
    """Keeps count of how many of its calls run at once; calls for the texts in `failing` fail, last."""

    failing: str = ""
    running: int = 0
    most: int = 0
    cancelled: int = 0
    started: list[str] = field(default_factory=list)
    before: list[int] = field(default_factory=list)

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        text = request.documents[0].text
        self.started.append(text)
        self.before.append(call.notes.attempts)
        call.notes.attempts += 2
        call.notes.channel = "slow"
        call.notes.took("upstream", 10 * len(self.started))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.01 if text in self.failing else 0.02)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if text in self.failing:
            raise UpstreamUnavailable("It went away.")
        return await PairModel().rerank(request, Call("another"))


async def test_a_few_parts_run_at_once(call: Call) -> None:
    slow = Slow()
    await Split(slow, 1, None).rerank(asking(list(LETTERS[:10])), call)
    assert (slow.most, len(slow.started)) == (AT_ONCE, 10)


async def test_attempts_of_all_parts_count_and_times_are_those_of_the_slowest(call: Call) -> None:
    await Split(Slow(), 1, None).rerank(asking(["a", "b", "c"]), call)
    assert (call.notes.attempts, call.notes.channel, call.notes.timings) == (6, "slow", {"upstream": 30})


@dataclass
class Probed:
    """Lets one call through and refuses the others without one, until that one was answered."""

    well: bool
    open: bool = False
    probing: bool = False
    calls: int = 0

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        if self.probing:
            raise UpstreamUnavailable("It is left alone.")
        self.probing = not self.open
        self.calls += 1
        call.notes.attempts += 1
        await asyncio.sleep(0.005)
        if not self.well:
            raise UpstreamUnavailable("It is down.")
        self.open, self.probing = True, False
        return await PairModel().rerank(request, Call("another"))


async def test_a_channel_that_lets_one_call_through_to_see_if_it_is_well_is_not_kept_from_seeing_it(call: Call) -> None:
    channel = Probed(well=True)
    request = asking(list(LETTERS))
    answer = await Validated(Split(channel, 1, None)).rerank(request, call)
    assert answer.results == (await Validated(PairModel()).rerank(request, Call("another"))).results
    assert (channel.calls, call.notes.attempts) == (26, 26)


async def test_and_where_it_is_not_well_one_call_was_all(call: Call) -> None:
    channel = Probed(well=False)
    with pytest.raises(UpstreamUnavailable, match="It is down"):
        await Split(channel, 1, None).rerank(asking(list(LETTERS)), call)
    assert (channel.calls, call.notes.attempts) == (1, 1)


async def test_a_channel_that_refuses_every_part_is_not_waited_for(call: Call) -> None:
    with pytest.raises(UpstreamUnavailable, match="left alone"):
        await Split(Probed(well=True, probing=True), 1, None).rerank(asking(list(LETTERS)), call)
    assert call.notes.attempts == 0


async def test_a_part_knows_how_often_others_were_asked_before(call: Call) -> None:
    call.notes.attempts = 1
    slow = Slow(failing="b")
    with pytest.raises(UpstreamUnavailable):
        await Split(slow, 1, None).rerank(asking(["a", "b"]), call)
    assert (slow.before, call.notes.attempts) == ([1, 1], 3)
    await Split(Slow(), 1, None).rerank(asking(["a", "b"]), call)
    assert call.notes.attempts == 7


async def test_one_part_that_fails_fails_the_whole_and_ends_the_others(call: Call) -> None:
    slow = Slow(failing="b")
    with pytest.raises(UpstreamUnavailable, match="It went away"):
        await Split(slow, 1, None).rerank(asking(list(LETTERS)), call)
    assert (slow.running, slow.cancelled) == (0, AT_ONCE - 1)
    assert len(slow.started) == AT_ONCE
    assert call.notes.attempts == 2


async def test_who_goes_away_takes_every_part_along(call: Call) -> None:
    slow = Slow()
    work = asyncio.create_task(Split(slow, 1, None).rerank(asking(list(LETTERS)), call))
    await asyncio.sleep(0.005)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (slow.running, slow.cancelled) == (0, AT_ONCE)


async def test_an_error_about_a_part_says_from_where_it_counts(call: Call) -> None:
    request = msgspec.structs.replace(asking(["a", "b", "c", "much too long"]), truncation=False)
    with pytest.raises(BadRequest) as caught:
        await Split(PairModel(), 2, None).rerank(request, call)
    assert caught.value.message == ("documents 2 to 3, counted from the first of them as 0: documents[1] is too long.")
    assert caught.value.param is None


async def test_a_warning_of_every_part_is_said_once_and_others_with_the_documents_they_are_about(call: Call) -> None:
    class Warned(PairModel):
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            answer = await super().rerank(request, call)
            return msgspec.structs.replace(answer, warnings=("top_p: not carried", *answer.warnings))

    answer = await Split(Warned(), 2, None).rerank(asking(["a", "b", "c", "much too long"]), call)
    assert answer.warnings == (
        "top_p: not carried",
        "documents 2 to 3, counted from the first of them as 0: 1 of 2 documents cut to 8: [1]",
    )


async def test_of_many_warnings_a_few_are_said_and_the_others_counted(call: Call) -> None:
    documents = [text for _ in range(WARNINGS_SHOWN + 2) for text in ("a", "much too long")]
    answer = await Split(PairModel(), 2, None).rerank(asking([*documents, "b"]), call)
    assert len(answer.warnings) == WARNINGS_SHOWN + 1
    assert answer.warnings[-1] == "2 more warnings of this kind about other documents"


async def test_parts_that_were_answered_by_two_models_are_no_answer(call: Call) -> None:
    class Two(PairModel):
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            return await PairModel(name=request.documents[0].text).rerank(request, call)

    with pytest.raises(UpstreamMalformed, match="different models"):
        await Split(Two(), 1, None).rerank(asking(["a", "b"]), call)


async def test_a_part_that_lacks_a_document_is_no_answer(call: Call) -> None:
    with pytest.raises(UpstreamMalformed, match="holds 1 results where 2"):
        await Split(FakeReranker(results=[Result(0, 0.5)]), 2, None).rerank(asking(list("abcd")), call)


async def test_vectors_stay_with_their_documents(call: Call) -> None:
    class Vectors(PairModel):
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            answer = await super().rerank(request, call)
            vectors = [(float(ord(document.text)),) for document in request.documents]
            return msgspec.structs.replace(
                answer,
                results=tuple(
                    msgspec.structs.replace(result, embedding=vectors[result.index]) for result in answer.results
                ),
            )

    request = RerankRequest(query="q", documents=tuple(map(Document, "abc")), return_embeddings=True)
    answer = await Split(Vectors(), 2, None).rerank(request, call)
    assert {result.index: result.embedding for result in answer.results} == {0: (97.0,), 1: (98.0,), 2: (99.0,)}
