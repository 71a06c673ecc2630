from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from rerankd.errors import DeadlineExceeded, ModelNotFound, UpstreamMalformed
from rerankd.pipeline import order, pipeline
from rerankd.types import Call, Document, Result
from tests.conftest import FakeReranker, request_for


def nesting(reranker: Any, route: str) -> list[str]:
    """The class names from the outside in, following `route` where the ways part; "model" is the end."""
    names = []
    while not isinstance(reranker, FakeReranker):
        names.append(type(reranker).__name__)
        reranker = reranker._routes[route] if hasattr(reranker, "_routes") else reranker._inner
    return [*names, "model"]


@pytest.mark.parametrize("route", ["one", "two", "alias"])
def test_the_order_that_is_told_is_the_order_that_is_built(route: str) -> None:
    built = pipeline({"one": FakeReranker(), "two": FakeReranker()}, {"alias": "two"})
    assert nesting(built, route) == order()


def test_time_is_kept_around_everything_and_answers_are_checked_next_to_the_model() -> None:
    assert order() == ["Deadlined", "Routed", "Validated", "model"]


async def test_a_model_is_reached_by_its_name_and_its_alias(call: Call) -> None:
    built = pipeline({"one": FakeReranker("one"), "two": FakeReranker("two")}, {"alias": "two"})
    answers = [await built.rerank(request_for(model=name), call) for name in ("one", "two", "alias")]
    assert [answer.model for answer in answers] == ["one", "two", "two"]


async def test_what_a_model_answers_is_checked_and_put_in_order(call: Call) -> None:
    built = pipeline({"m": FakeReranker(results=[Result(0, 0.1), Result(1, 0.2)])}, {})
    answer = await built.rerank(request_for("a", "b", model="m", return_documents=True), call)
    assert answer.results == (Result(1, 0.2, Document("b")), Result(0, 0.1, Document("a")))
    with pytest.raises(UpstreamMalformed):
        await built.rerank(request_for("a", model="m"), call)


async def test_no_model_may_take_longer_than_the_request_has() -> None:
    with pytest.raises(DeadlineExceeded):
        await pipeline({"m": FakeReranker(seconds=5)}, {}).rerank(
            request_for(model="m"), Call("the-request", deadline=monotonic() + 0.01)
        )


async def test_a_pipeline_without_models_finds_none(call: Call) -> None:
    with pytest.raises(ModelNotFound):
        await pipeline({}, {}).rerank(request_for(model="m"), call)
