"""The options of a request, under every name that a client may have for them; the fields themselves are test_decoding's."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from rerankd.dialects.base import Dialect
from rerankd.dialects.fields import EXPECTED, MOST_CHUNKS, MOST_OVERLAP, MOST_TOKENS
from rerankd.dialects.local import Local
from rerankd.dialects.superset import Superset
from rerankd.errors import BadRequest
from rerankd.types import Document, RerankRequest

DIALECTS: list[Dialect] = [Local(), Superset()]
DOCUMENTS = (Document("a"), Document("b"))

every_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


def asked(dialect: Dialect, **fields: Any) -> RerankRequest:
    return dialect.parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def request(**options: Any) -> RerankRequest:
    return RerankRequest(query="q", documents=DOCUMENTS, **options)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        (  # as it was seen from a Jina client
            {"top_n": 2, "return_documents": False, "truncation": True, "max_doc_length": 1024},
            {"top_n": 2, "max_tokens_per_doc": 1024},
        ),
        (  # SiliconFlow, from llama-index
            {"top_n": 4, "return_documents": False, "max_chunks_per_doc": 1024, "overlap_tokens": 80},
            {"top_n": 4, "max_chunks_per_doc": 1024, "overlap_tokens": 80},
        ),
        (  # SiliconFlow's field for Qwen3-Reranker
            {"return_documents": False, "instruction": "Find answers."},
            {"instruction": "Find answers."},
        ),
        (  # New API
            {"return_documents": False, "max_chunk_per_doc": 3, "overlap_tokens": 0},
            {"max_chunks_per_doc": 3, "overlap_tokens": 0},
        ),
        (  # Cohere v1
            {"rank_fields": ["text"], "return_documents": False, "max_chunks_per_doc": 3},
            {"max_chunks_per_doc": 3},
        ),
        (  # Cohere v2
            {"return_documents": False, "max_tokens_per_doc": 4096, "priority": 0},
            {"max_tokens_per_doc": 4096},
        ),
        (  # langchain_cohere
            {"top_n": 3, "max_tokens_per_doc": None, "return_documents": False},
            {"top_n": 3},
        ),
        (  # Voyage
            {"return_documents": False, "top_k": None, "truncation": False},
            {"truncation": False},
        ),
        (  # Xinference
            {"max_chunks_per_doc": None, "return_documents": False, "return_len": None, "kwargs": "{}"},
            {},
        ),
        (  # TEI's names, sent to this path
            {"return_text": False, "truncate": False, "raw_scores": False},
            {"truncation": False, "raw_scores": False},
        ),
        (  # RAGFlow's truth values
            {"return_documents": "false", "truncate": "false", "top_n": "2"},
            {"truncation": False, "top_n": 2},
        ),
        (  # Xinference's options in a string
            {"return_documents": None, "return_text": False, "kwargs": '{"instruction": "Find answers.", "x": 1}'},
            {"instruction": "Find answers."},
        ),
        (  # vLLM's zeros
            {"return_documents": False, "top_n": 0, "max_tokens_per_doc": 0},
            {},
        ),
        (  # Voyage and Mixedbread
            {"return_documents": False, "top_k": 1},
            {"top_n": 1},
        ),
        (  # SGLang and DashScope
            {"return_documents": False, "instruct": "Find answers."},
            {"instruction": "Find answers."},
        ),
    ],
    ids=lambda value: "",
)
@every_dialect
def test_what_clients_of_other_servers_send_is_understood(
    dialect: Dialect, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    assert asked(dialect, **fields) == request(**options)


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        ({"instruction": "one"}, {"instruct": "two"}, "instruction"),
        ({"max_tokens_per_doc": 1}, {"max_doc_length": 2}, "max_tokens_per_doc"),
        ({"max_chunks_per_doc": 1}, {"max_chunk_per_doc": 2}, "max_chunks_per_doc"),
        ({"truncation": False}, {"truncate": True}, "truncation"),
        ({"truncation": True}, {"truncate": False}, "truncation"),
    ],
)
@every_dialect
def test_of_two_names_for_one_field_the_first_counts_and_null_is_no_first(
    dialect: Dialect, first: dict[str, Any], second: dict[str, Any], field: str
) -> None:
    (value,), (other,) = first.values(), second.values()
    assert getattr(asked(dialect, **first, **second), field) == value
    assert getattr(asked(dialect, **dict.fromkeys(first), **second), field) == other


@every_dialect
def test_an_empty_instruction_is_none(dialect: Dialect) -> None:
    assert asked(dialect, instruction="").instruction is None
    assert asked(dialect, instruction="", instruct="").instruction is None
    assert asked(dialect, instruction=" ").instruction == " "


@pytest.mark.parametrize(
    ("said", "meant"), [("NONE", False), ("END", True), (False, False), (True, True), (None, True)]
)
@every_dialect
def test_truncate_is_a_word_or_a_truth_value(dialect: Dialect, said: object, meant: bool) -> None:
    assert asked(dialect, truncate=said).truncation is meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("interactive", "interactive"),
        ("batch", "batch"),
        (None, "interactive"),
        (0, "interactive"),
        (-1, "interactive"),
        (1, "batch"),
        (999, "batch"),
        (10**30, "batch"),
    ],
)
@every_dialect
def test_a_priority_is_a_word_or_a_number_as_cohere_has_them(dialect: Dialect, said: object, meant: str) -> None:
    assert asked(dialect, priority=said).priority == meant


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [
        ("max_tokens_per_doc", "0 (no limit)", MOST_TOKENS),
        ("max_doc_length", "0 (no limit)", MOST_TOKENS),
        ("max_chunks_per_doc", "0 (no limit)", MOST_CHUNKS),
        ("max_chunk_per_doc", "0 (no limit)", MOST_CHUNKS),
        ("overlap_tokens", "0", MOST_OVERLAP),
    ],
)
@every_dialect
def test_a_length_is_taken_within_its_bounds_and_refused_by_name_beyond_them(
    dialect: Dialect, field: str, least: str, most: int
) -> None:
    for sound in (1, most):
        assert asked(dialect, **{field: sound}) != asked(dialect)
    assert (asked(dialect, **{field: 0}) == asked(dialect)) == ("no limit" in least)
    for beyond in (-1, most + 1, -(10**30), 10**30):
        with pytest.raises(BadRequest) as caught:
            asked(dialect, **{field: beyond})
        assert caught.value.param == field
        assert caught.value.message == f"`{field}` must be a whole number from {least} to {most}."


@pytest.mark.parametrize(
    "said", ["urgent", "", "BATCH", "x - at `$.query`", "got `int` - at `$`", "missing required field `query`\n"]
)
@every_dialect
def test_a_word_that_is_no_choice_is_refused_without_being_quoted_or_read(dialect: Dialect, said: str) -> None:
    for field in ("priority", "truncate"):
        with pytest.raises(BadRequest) as caught:
            asked(dialect, **{field: said})
        assert caught.value.param == field
        assert caught.value.message == f"`{field}` must be {EXPECTED[field]}."


@every_dialect
def test_options_are_sent_upstream_under_their_own_names_and_only_where_they_say_something(dialect: Dialect) -> None:
    options = {
        "instruction": "Find answers.",
        "max_tokens_per_doc": 7,
        "max_chunks_per_doc": 2,
        "overlap_tokens": 0,
        "truncation": False,
        "raw_scores": True,
        "priority": "batch",
    }
    bare = json.loads(dialect.render_request(request()))
    assert not set(bare) & set(options)
    whole = msgspec.structs.replace(request(), **options)
    assert json.loads(dialect.render_request(whole)) == {**bare, **options}


@pytest.mark.parametrize("name", ["texts", "input", "passages"])
@every_dialect
def test_documents_come_under_other_names_too_and_errors_say_which(dialect: Dialect, name: str) -> None:
    def parsed(value: object) -> RerankRequest:
        return dialect.parse_request(json.dumps({"query": "q", name: value}).encode())

    assert parsed(["a", {"text": "b"}]).documents == DOCUMENTS
    with pytest.raises(BadRequest) as caught:
        parsed(["a", {}])
    assert caught.value.param == f"{name}[1]"


@every_dialect
def test_kwargs_that_are_no_json_object_are_refused(dialect: Dialect) -> None:
    for kwargs in ("{", "[]", "7"):
        with pytest.raises(BadRequest):
            asked(dialect, kwargs=kwargs)
