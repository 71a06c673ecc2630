from __future__ import annotations

import pytest

from rerankd.catalog import Catalog
from rerankd.types import ModelCard


def card(name: str) -> ModelCard:
    return ModelCard(name=name, family="f", score="logit", source=name, device="cpu", dtype="float32")


CARDS = [card("first"), card("second")]
ALIASES = {"alias": "second"}


def test_names_are_those_of_the_models_and_then_the_aliases() -> None:
    assert Catalog(CARDS, ALIASES).names() == ["first", "second", "alias"]


@pytest.mark.parametrize(
    ("asked", "default", "promised", "name"),
    [
        ("second", "first", "alias", "second"),
        ("not served", "first", "alias", "not served"),
        ("", "first", "alias", ""),
        (None, "second", "alias", "second"),
        (None, None, "alias", "alias"),
        (None, None, "second", "second"),
        (None, None, "not served", "first"),
        (None, None, None, "first"),
    ],
)
def test_a_request_goes_by_what_it_asked_then_the_default_then_the_promise_then_the_first_model(
    asked: str | None, default: str | None, promised: str | None, name: str
) -> None:
    assert Catalog(CARDS, ALIASES, default).name_for(asked, promised) == name


def test_where_nothing_is_served_a_request_goes_by_no_name() -> None:
    assert Catalog().name_for(None, "promised") is None
