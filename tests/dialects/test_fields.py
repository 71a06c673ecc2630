from __future__ import annotations

import pytest

from rerankd.dialects.fields import EXPECTED, TextDocument, documents_of, query_of, top_n_of
from rerankd.dialects.local import LocalRequest
from rerankd.dialects.superset import SupersetRequest
from rerankd.errors import BadRequest
from rerankd.types import Document


@pytest.mark.parametrize(("query", "state"), [(None, "missing"), ("", "empty")])
def test_a_query_that_is_not_there_is_named(query: str | None, state: str) -> None:
    with pytest.raises(BadRequest, match=f"`query` is {state}") as caught:
        query_of(query)
    assert caught.value.param == "query"


@pytest.mark.parametrize("query", ["q", " ", "雪"])
def test_any_other_query_is_taken_as_it_is(query: str) -> None:
    assert query_of(query) == query


def test_documents_that_are_not_there_are_named() -> None:
    for documents, state in ((None, "missing"), ([], "empty")):
        with pytest.raises(BadRequest, match=f"`documents` is {state}") as caught:
            documents_of(documents)
        assert caught.value.param == "documents"


def test_a_document_is_a_string_or_an_object_and_may_be_empty() -> None:
    assert documents_of(["a", TextDocument("b"), ""]) == (Document("a"), Document("b"), Document(""))


@pytest.mark.parametrize(("top_n", "meant"), [(None, None), (0, None), (1, 1), (10**9, 10**9)])
def test_top_n_none_and_zero_mean_all(top_n: int | None, meant: int | None) -> None:
    assert top_n_of(top_n) == meant


def test_a_negative_top_n_is_refused() -> None:
    with pytest.raises(BadRequest, match="negative") as caught:
        top_n_of(-1)
    assert caught.value.param == "top_n"


@pytest.mark.parametrize("request_type", [LocalRequest, SupersetRequest])
def test_a_client_can_be_told_what_each_field_must_be(request_type: type[LocalRequest | SupersetRequest]) -> None:
    assert set(request_type.__struct_fields__) <= set(EXPECTED)
