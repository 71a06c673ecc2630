from __future__ import annotations

import pytest

from rerankd.errors import ModelNotFound
from rerankd.policies.routed import NAMES_SHOWN, Routed
from rerankd.types import Call
from tests.conftest import FakeReranker, request_for


@pytest.mark.parametrize(("asked", "answers"), [("one", "one"), ("two", "two"), ("alias", "two")])
async def test_a_request_goes_to_the_model_that_it_asks_for(asked: str, answers: str, call: Call) -> None:
    one, two = FakeReranker("one"), FakeReranker("two")
    request = request_for(model=asked)
    answer = await Routed({"one": one, "two": two, "alias": two}).rerank(request, call)
    assert answer.model == answers
    assert one.asked + two.asked == [request]


@pytest.mark.parametrize("asked", ["nothing", "ONE", " one", "on"])
async def test_a_model_that_is_not_served_is_not_found_and_those_that_are_get_listed(asked: str, call: Call) -> None:
    model = FakeReranker("one")
    with pytest.raises(ModelNotFound) as caught:
        await Routed({"one": model, "alias": model}).rerank(request_for(model=asked), call)
    assert caught.value.message == f"There is no model {asked!r} here; served are: alias, one."
    assert caught.value.param == "model"


@pytest.mark.parametrize("asked", [None, ""])
async def test_a_request_without_a_model_is_told_so(asked: str | None, call: Call) -> None:
    with pytest.raises(ModelNotFound, match=r"^No model was asked for; served are: one\.$"):
        await Routed({"one": FakeReranker()}).rerank(request_for(model=asked), call)


async def test_where_nothing_is_served_that_is_said(call: Call) -> None:
    with pytest.raises(ModelNotFound, match=r"served are: none\.$"):
        await Routed({}).rerank(request_for(model="one"), call)


async def test_a_long_list_of_models_is_cut(call: Call) -> None:
    routes = {f"model-{number:03}": FakeReranker() for number in range(NAMES_SHOWN + 1)}
    with pytest.raises(ModelNotFound) as caught:
        await Routed(routes).rerank(request_for(model="other"), call)
    assert f"model-{NAMES_SHOWN - 1:03} and others." in caught.value.message
    assert f"model-{NAMES_SHOWN:03}" not in caught.value.message
