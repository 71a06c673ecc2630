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
