from __future__ import annotations

from typing import Any

import pytest

from rerankd.dialects.fields import EXPECTED, documents_of, query_of, top_n_of
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
    found = documents_of(["a", {"text": "b"}, "", {"text": ""}])
    assert found == (Document("a"), Document("b"), Document(""), Document(""))


def test_an_object_with_more_than_a_text_is_kept_whole() -> None:
    sent = {"text": "b", "title": "t", "page": 7}
    assert documents_of([sent]) == (Document("b", sent),)


def test_rank_fields_are_what_is_ranked() -> None:
    sent = {"title": "t", "text": "b", "page": 7, "none": None}
    for fields, text in ((["title"], "t"), (["title", "text"], "title: t\ntext: b"), (["page", "none"], "page: 7")):
        assert documents_of([sent], rank_fields=fields) == (Document(text, sent),)
    assert documents_of(["a"], rank_fields=["title"]) == (Document("a"),)


def test_an_object_without_any_of_the_rank_fields_is_named() -> None:
    with pytest.raises(BadRequest, match="none of the `rank_fields`") as caught:
        documents_of([{"text": "a", "title": "t"}, {"text": "b"}], rank_fields=["title"])
    assert caught.value.param == "documents[1]"


def test_the_text_parts_of_a_multimodal_document_are_its_text() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert [document.text for document in documents_of([{"content": parts}, {"content": "x"}])] == ["one\ntwo", "x"]
    assert query_of({"text": "q"}) == query_of({"content": [{"type": "text", "text": "q"}]}) == "q"


@pytest.mark.parametrize(
    ("item", "reason", "param"),
    [
        ({}, "lacks `text`", "documents[0]"),
        ({"title": "t"}, "lacks `text`", "documents[0]"),
        ({"text": 7}, "must be a string", "documents[0].text"),
        ({"text": None}, "must be a string", "documents[0].text"),
        ({"content": []}, "lacks `text`", "documents[0]"),
        ({"image": "https://example.org/x.png"}, "only texts are ranked", "documents[0]"),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]},
            "only texts are ranked",
            "documents[0].content[1]",
        ),
    ],
)
def test_what_is_no_text_is_named(item: dict[str, Any], reason: str, param: str) -> None:
    with pytest.raises(BadRequest, match=reason) as caught:
        documents_of([item])
    assert caught.value.param == param
    with pytest.raises(BadRequest, match=reason):
        query_of(item)


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
