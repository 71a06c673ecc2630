from __future__ import annotations

import msgspec
import pytest

from rerankd.errors import UpstreamMalformed
from rerankd.policies.validated import Validated
from rerankd.types import Call, Document, Result
from tests.conftest import FakeReranker, request_for


async def test_results_are_put_in_order_cut_and_given_the_callers_documents(call: Call) -> None:
    inner = FakeReranker(results=[Result(0, 0.1), Result(1, 0.9, Document("forged")), Result(2, 0.5)])
    answer = await Validated(inner).rerank(request_for("a", "b", "c", top_n=2, return_documents=True), call)
    assert answer.results == (Result(1, 0.9, Document("b")), Result(2, 0.5, Document("c")))


async def test_everything_else_in_the_answer_stays(call: Call) -> None:
    inner = FakeReranker(results=[Result(0, 0.1)])
    plain = await inner.rerank(request_for("a"), call)
    assert await Validated(inner).rerank(request_for("a"), call) == msgspec.structs.replace(
        plain, results=(Result(0, 0.1),)
    )


async def test_an_answer_that_is_none_is_refused(call: Call) -> None:
    with pytest.raises(UpstreamMalformed):
        await Validated(FakeReranker(results=[])).rerank(request_for("a"), call)


async def test_the_answer_of_a_cascade_has_as_many_results_as_it_keeps_and_no_fewer(call: Call) -> None:
    results = [Result(2, 0.1), Result(0, 0.9)]
    answer = await Validated(FakeReranker(results=results), keep=2).rerank(request_for("a", "b", "c"), call)
    assert answer.results == (Result(0, 0.9), Result(2, 0.1))
    with pytest.raises(UpstreamMalformed, match="holds 1 results where 2"):
        await Validated(FakeReranker(results=results[:1]), keep=2).rerank(request_for("a", "b", "c"), call)
    with pytest.raises(UpstreamMalformed, match="holds 2 results where 3"):
        await Validated(FakeReranker(results=results)).rerank(request_for("a", "b", "c"), call)
