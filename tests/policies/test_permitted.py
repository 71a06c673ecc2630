from __future__ import annotations

import pytest

from rerankd.accounts import Caller
from rerankd.errors import Forbidden
from rerankd.policies.permitted import NAMES_SHOWN, Permitted, may_use
from rerankd.types import Call
from tests.conftest import FakeReranker, request_for

ALIASES = {"fast": "small", "quick": "small", "good": "large"}


def caller(*models: str) -> Caller:
    return Caller(id="ann", name="Ann", models=models)


def call_of(who: Caller | None) -> Call:
    return Call("the-request", caller=who)


@pytest.mark.parametrize(
    ("listed", "asked", "may"),
    [
        ("small", "small", True),
        ("small", "fast", True),
        ("fast", "small", True),
        ("fast", "quick", True),
        ("small", "large", False),
        ("fast", "good", False),
        ("fast", "unknown", False),
        ("unknown", "unknown", True),
    ],
)
async def test_a_key_is_for_its_models_under_whatever_name(listed: str, asked: str, may: bool) -> None:
    inner, who = FakeReranker(), caller("other", listed)
    assert may_use(who, asked, ALIASES) is may
    ranking = Permitted(inner, ALIASES).rerank(request_for(model=asked), call_of(who))
    if may:
        await ranking
    else:
        with pytest.raises(Forbidden, match=rf"not for the model '{asked}'; it is for: other, {listed}\.") as refused:
            await ranking
        assert (refused.value.status, refused.value.param) == (403, "model")
    assert len(inner.asked) == may


@pytest.mark.parametrize("who", [None, caller()], ids=["in open mode", "without a list"])
@pytest.mark.parametrize("model", ["small", "unknown", None])
async def test_who_has_no_list_asks_for_what_he_likes(who: Caller | None, model: str | None) -> None:
    inner = FakeReranker()
    await Permitted(inner, ALIASES).rerank(request_for(model=model), call_of(who))
    assert len(inner.asked) == 1


async def test_a_request_without_a_model_is_for_none_of_the_list() -> None:
    with pytest.raises(Forbidden, match="not for a request without a model; it is for: small"):
        await Permitted(FakeReranker(), ALIASES).rerank(request_for(), call_of(caller("small")))


async def test_what_is_said_has_bounds() -> None:
    who = caller(*(f"model-{number}-" + "m" * 300 for number in range(100)))
    with pytest.raises(Forbidden) as refused:
        await Permitted(FakeReranker(), ALIASES).rerank(request_for(model="x" * 100_000), call_of(who))
    assert len(refused.value.message) < (NAMES_SHOWN + 2) * 210
    assert "model-19-" in refused.value.message
    assert "and others" in refused.value.message
    assert "model-20-" not in refused.value.message
