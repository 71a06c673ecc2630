from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.errors import BadRequest, UpstreamMalformed
from rerankd.policies.cascaded import Cascaded
from rerankd.policies.validated import Validated
from rerankd.types import Call, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import FakeReranker
from tests.policies.pairs import PairModel, asking, texts


@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12),
    st.integers(1, 13),
    st.none() | st.integers(1, 13),
    st.booleans(),
)
async def test_the_best_of_the_first_in_the_order_of_the_second(
    documents: list[str], keep: int, top_n: int | None, back: bool
) -> None:
    request = msgspec.structs.replace(asking(documents), top_n=top_n, return_documents=back)
    first, then = PairModel("cheap"), PairModel("good")
    answer = await Validated(Cascaded(first, then, keep), keep).rerank(request, Call("the-request"))
    by_first = sorted(range(len(documents)), key=lambda index: (-first.score(request, documents[index]), index))
    kept = by_first[:keep]
    ranked = sorted(kept, key=lambda index: (-then.score(request, documents[index]), index))
    assert [result.index for result in answer.results] == ranked[:top_n]
    for result in answer.results:
        assert result.relevance_score == then.score(request, documents[result.index])
        assert (result.document == request.documents[result.index]) is back
    assert answer.model == "good"
    assert len(then.asked[0]) == min(keep, len(documents))


async def test_the_second_sees_what_is_kept_in_the_order_of_the_request(call: Call) -> None:
    then = PairModel("good")
    first = FakeReranker(results=[Result(3, 0.9), Result(1, 0.8), Result(0, 0.1), Result(2, 0.2)])
    await Cascaded(first, then, 3).rerank(asking(["a", "b", "c", "d"]), call)
    assert then.asked == [["b", "c", "d"]]


async def test_where_nothing_is_left_out_the_first_is_not_asked(call: Call) -> None:
    first, then = PairModel("cheap"), PairModel("good")
    request = msgspec.structs.replace(asking(["a", "b"]), return_documents=True, top_n=1)
    answer = await Cascaded(first, then, 2).rerank(request, call)
    assert (first.asked, then.requests, answer.warnings) == ([], [request], ())


async def test_the_answer_says_how_many_were_not_reranked_and_counts_the_tokens_of_both(call: Call) -> None:
    answer = await Cascaded(PairModel("cheap"), PairModel("good"), 1).rerank(asking(["a", "b", "c"]), call)
    assert answer.warnings == ("2 of 3 documents were not reranked: cheap kept the best 1",)
    assert answer.usage == Usage(prompt_tokens=20, search_units=2)


async def test_calls_of_both_are_counted_and_the_second_starts_with_none(call: Call) -> None:
    class Seen(PairModel):
        before = -1

        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            self.before = call.notes.attempts
            return await super().rerank(request, call)

    then = Seen("good", channel="far")
    await Cascaded(PairModel("cheap", channel="near"), then, 1).rerank(asking(["a", "b"]), call)
    assert (then.before, call.notes.attempts, call.notes.channel) == (0, 2, "far")


async def test_the_first_is_not_asked_for_what_nobody_will_see(call: Call) -> None:
    first, then = PairModel("cheap"), PairModel("good")
    request = msgspec.structs.replace(
        asking(["a", "b"]), top_n=1, return_documents=True, return_embeddings=True, raw_scores=True
    )
    await Cascaded(first, then, 1).rerank(request, call)
    assert first.requests == [msgspec.structs.replace(asking(["a", "b"]), top_n=1)]
    assert then.requests[0].return_embeddings
    assert then.requests[0].raw_scores


async def test_warnings_say_of_which_model_and_of_which_documents_they_are(call: Call) -> None:
    documents = ["much too long", "far too long too", "c"]
    answer = await Cascaded(PairModel("cheap"), PairModel("good"), 2).rerank(asking(documents), call)
    assert answer.warnings[1] == "cheap, which chose them: 2 of 3 documents cut to 8: [0, 1]"
    assert answer.warnings[2].startswith("the 2 documents that were kept, counted in the order of the request: ")
    assert len(answer.warnings) == 3


async def test_an_error_of_the_second_about_a_document_says_how_it_counts(call: Call) -> None:
    class Lenient(PairModel):
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            scores = [Result(index, float(len(text))) for index, text in enumerate(texts(request))]
            return RerankResponse(model="cheap", results=tuple(scores), usage=Usage(prompt_tokens=1))

    request = msgspec.structs.replace(asking(["a", "much too long"]), truncation=False)
    with pytest.raises(BadRequest) as caught:
        await Cascaded(Lenient(), PairModel("good"), 1).rerank(request, call)
    assert caught.value.message.startswith("the 1 documents that were kept")
    assert caught.value.param is None


@pytest.mark.parametrize("lie", [[], [Result(0, 0.5), Result(0, 0.5)], [Result(0, 0.5), Result(9, 0.5)]])
@pytest.mark.parametrize("place", ["first", "then"])
async def test_a_lie_of_either_is_no_answer(lie: list[Result], place: str, call: Call) -> None:
    liar, honest = FakeReranker(results=lie), PairModel()
    first, then = (liar, honest) if place == "first" else (honest, liar)
    with pytest.raises(UpstreamMalformed):
        await Cascaded(first, then, 2).rerank(asking(["a", "b", "c"]), call)
