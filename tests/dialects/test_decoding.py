"""Every bad body is a BadRequest that says where it is bad; the codecs are asked, as the server asks them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rerankd.dialects.base import Dialect
from rerankd.dialects.fields import EXPECTED, MOST_CHUNKS, MOST_OVERLAP, MOST_TOKENS
from rerankd.dialects.local import Local
from rerankd.dialects.superset import Superset
from rerankd.errors import BadRequest
from rerankd.types import RerankRequest

DIALECTS: list[Dialect] = [Local(), Superset()]
GOOD = b'{"query": "q", "documents": ["a"]}'
MILLION = 10**6


def refusal(body: bytes) -> BadRequest:
    """What both codecs say of this body, which is the same."""
    refusals = []
    for dialect in DIALECTS:
        with pytest.raises(BadRequest) as caught:
            dialect.parse_request(body)
        refusals.append(caught.value)
    assert len({(error.message, error.param) for error in refusals}) == 1
    return refusals[0]


def with_field(name: str, value: str) -> bytes:
    fields = {"query": '"q"', "documents": '["a"]', name: value}
    return ("{" + ", ".join(f'"{field}": {text}' for field, text in fields.items()) + "}").encode()


@pytest.mark.parametrize(
    ("field", "value", "param", "says"),
    [
        ("query", '""', "query", "is empty"),
        ("query", "null", "query", "is missing"),
        ("query", "7", "query", "not a number"),
        ("query", "7.5", "query", "not a decimal number"),
        ("query", "true", "query", "not true or false"),
        ("query", '["q"]', "query", "not a list"),
        ("query", '{"title": "q"}', "query", "lacks `text`"),
        ("documents", "[]", "documents", "is empty"),
        ("documents", "null", "documents", "is missing"),
        ("documents", '"a"', "documents", "not a string"),
        ("documents", '{"0": "a"}', "documents", "not an object"),
        ("documents", '["a", 1]', "documents[1]", "not a number"),
        ("documents", '["a", null]', "documents[1]", "not null"),
        ("documents", '["a", "b", true]', "documents[2]", "not true or false"),
        ("documents", '[["a"]]', "documents[0]", "not a list"),
        ("documents", '["a", {}]', "documents[1]", "lacks `text`"),
        ("documents", '["a", {"title": "b"}]', "documents[1]", "lacks `text`"),
        ("documents", '["a", {"text": 1}]', "documents[1].text", "not a number"),
        ("documents", '["a", {"text": null}]', "documents[1].text", "not null"),
        ("top_n", "-1", "top_n", "negative"),
        ("top_n", "-99999999999999999999", "top_n", "negative"),
        ("top_n", '"three"', "top_n", "not a string"),
        ("top_n", "1.5", "top_n", "not a decimal number"),
        ("top_n", "true", "top_n", "not true or false"),
        ("top_n", "[3]", "top_n", "not a list"),
        ("top_n", "1e400", "top_n", "out of range"),
        ("top_n", "9" * 5000, "top_n", "out of range"),
        ("model", "7", "model", "not a number"),
        ("return_documents", '"yes"', "return_documents", "not a string"),
        ("return_documents", "7", "return_documents", "not a number"),
        ("return_embeddings", "[]", "return_embeddings", "not a list"),
        ("instruction", "7", "instruction", "not a number"),
        ("instruct", '["Find answers."]', "instruct", "not a list"),
        ("max_tokens_per_doc", "-1", "max_tokens_per_doc", "from 0 (no limit)"),
        ("max_tokens_per_doc", "1.5", "max_tokens_per_doc", "not a decimal number"),
        ("max_tokens_per_doc", "9" * 5000, "max_tokens_per_doc", "out of range"),
        ("max_doc_length", "true", "max_doc_length", "not true or false"),
        ("max_chunks_per_doc", "-1", "max_chunks_per_doc", "from 0 (no limit)"),
        ("max_chunk_per_doc", '"few"', "max_chunk_per_doc", "not a string"),
        ("overlap_tokens", "-1", "overlap_tokens", "from 0"),
        ("overlap_tokens", "1e400", "overlap_tokens", "out of range"),
        ("truncation", '"END"', "truncation", "not a string"),
        ("truncation", "7", "truncation", "not a number"),
        ("truncate", "7", "truncate", "not a number"),
        ("rank_fields", '"text"', "rank_fields", "not a string"),
        ("rank_fields", "[7]", "rank_fields[0]", "not a number"),
        ("raw_scores", '"both"', "raw_scores", "not a string"),
        ("kwargs", "{}", "kwargs", "not an object"),
        ("truncate", '"START"', "truncate", "must be true, false"),
        ("priority", '"high"', "priority", '"interactive", "batch" or a whole number'),
        ("priority", "true", "priority", "not true or false"),
        ("priority", "0.5", "priority", "not a decimal number"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_what_it_is(field: str, value: str, param: str, says: str) -> None:
    error = refusal(with_field(field, value))
    assert error.param == param
    assert f"`{param}`" in error.message
    assert says in error.message


@pytest.mark.parametrize("missing", ["query", "documents"])
def test_a_field_that_is_missing_is_named_with_what_it_must_be(missing: str) -> None:
    fields = {name: value for name, value in json.loads(GOOD).items() if name != missing}
    error = refusal(json.dumps(fields).encode())
    assert error.param == missing
    assert error.message == f"`{missing}` is missing; it must be {EXPECTED[missing]}."


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[]", "a list"),
        (b'["q", ["a"]]', "a list"),
        (b"null", "null"),
        (b"7", "a number"),
        (b"1.5", "a decimal number"),
        (b'"q"', "a string"),
        (b"true", "true or false"),
        (b"[" * MILLION, "a list"),
    ],
    ids=lambda value: str(value[:9]),
)
def test_a_body_that_is_no_object_is_told_what_it_is(body: bytes, says: str) -> None:
    error = refusal(body)
    assert error.message == f"The body must be a JSON object, not {says}."
    assert error.param is None


@pytest.mark.parametrize("body", [b"", b" ", b"\n\t\r\n"])
def test_an_empty_body_is_called_empty(body: bytes) -> None:
    assert refusal(body).message == "The body is not JSON: it is empty."


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [
        (b"{", 1, 2),
        (GOOD[:-1], 1, 34),
        (b'{"query": "q",\n "documents": ["a', 2, 18),
        (b'{"query": "q", "return_documents": tru', 1, 39),
        ('{"query": "雪'.encode(), 1, 13),
    ],
)
def test_a_body_that_was_cut_off_says_where_it_ends(body: bytes, line: int, column: int) -> None:
    assert f"it ends at line {line}, column {column} before it is complete" in refusal(body).message


@pytest.mark.parametrize(
    ("body", "line", "column", "says"),
    [
        (with_field("top_n", "NaN"), 1, 45, "JSON has no NaN"),
        (with_field("unknown", "Infinity"), 1, 47, "JSON has no Infinity"),
        (with_field("return_documents", "True"), 1, 56, "JSON writes true"),
        (with_field("return_documents", "False"), 1, 56, "JSON writes false"),
        (with_field("top_n", "None"), 1, 45, "JSON writes null"),
        (b'{"query": "q", # why\n "documents": ["a"]}', 1, 16, "JSON has no comments"),
        (b'{"query": "q",\n "documents": ["a"] // why\n}', 2, 21, "JSON has no comments"),
        (b"{'query': 'q'}", 1, 2, "JSON strings stand in double quotes"),
        (b"{\"query\": 'q'}", 1, 11, "JSON strings stand in double quotes"),
        ('{"query": "雪雪",\n"documents": ["ü", #'.encode(), 2, 20, "JSON has no comments"),
        (b'{"query": "q", "documents": ["a",]}', 1, 34, "trailing comma"),
        (b'{"query": "q" "documents": ["a"]}', 1, 15, "expected"),
    ],
)
def test_a_mistake_in_the_json_is_named_with_its_line_and_column(
    body: bytes, line: int, column: int, says: str
) -> None:
    error = refusal(body)
    assert f"The body is not JSON: line {line}, column {column}: {says}" in error.message
    assert error.param is None


def test_what_follows_the_body_is_refused() -> None:
    assert f"line 1, column {len(GOOD) + 2}: trailing characters" in refusal(GOOD + b" x").message


@pytest.mark.parametrize("body", [b"query=q&documents=a", b"<xml/>", b"{query: 1}"])
def test_a_body_that_is_something_else_is_refused_where_it_begins(body: bytes) -> None:
    assert re.search(r"not JSON: line 1, column [12]\b", refusal(body).message)


def test_a_byte_order_mark_is_refused_by_name() -> None:
    assert "byte order mark" in refusal(b"\xef\xbb\xbf" + GOOD).message


def test_bytes_that_are_not_utf_8_are_refused_in_an_unknown_field_too() -> None:
    assert "not UTF-8" in refusal(GOOD.replace(b"{", b'{"x": "\xff", ', 1)).message


def test_an_escaped_backslash_before_a_u_is_no_surrogate() -> None:
    assert "it ends at" in refusal(rb'{"query":"\\ud800","documents":["a"').message


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [
        (b"\xff", 1, 1),
        (b'{"query": "\xff"}', 1, 12),
        (b'{"query": "q",\n "documents": ["ab\xc3"]}', 2, 19),
        ('{"query": "雪'.encode() + b'\xe9", "documents": []}', 1, 13),
        (GOOD + b"\xff", 1, 35),
        (GOOD.decode().encode("latin-1").replace(b"a", "ü".encode("latin-1")), 1, 31),
    ],
)
def test_a_byte_that_is_not_utf_8_is_found(body: bytes, line: int, column: int) -> None:
    assert f"line {line}, column {column} holds a byte that is not UTF-8" in refusal(body).message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_other_unicode_encodings_are_refused_by_name(encoding: str) -> None:
    assert "looks like UTF-16" in refusal(GOOD.decode().encode(encoding)).message


@pytest.mark.parametrize(
    "text",
    [
        r"\ud800",
        r"\udc00",
        r"a\ud83d",
        r"a\ude00",
        r"\ud83d and more text",
        r"\ud800\ud800",
        r"\ude00\ud83d",
        r"\ud83dA",
        r"\ud83d\n",
    ],
)
@pytest.mark.parametrize("field", ["query", "documents", "unknown"])
def test_half_of_a_surrogate_pair_is_refused_with_its_line(text: str, field: str) -> None:
    value = f'["{text}"]' if field == "documents" else f'"{text}"'
    assert re.search(r"not JSON: line 1, column \d+", refusal(with_field(field, value)).message)


def test_half_of_a_surrogate_pair_at_the_end_of_a_string_is_called_that() -> None:
    error = refusal(b'{"query": "q",\n "documents": ["a\\ud83d"]}')
    assert "line 2, column 18 holds half of a surrogate pair" in error.message


def test_a_whole_surrogate_pair_is_a_character_and_its_escape_is_plain_text() -> None:
    for text, meant in ((r"\ud83d\ude00", "\U0001f600"), (r"\\ud83d", r"\ud83d")):
        for dialect in DIALECTS:
            assert dialect.parse_request(with_field("query", f'"{text}"')).query == meant


@pytest.mark.parametrize(
    "body",
    [
        GOOD[:-1] + b', "unknown": ' + b"[" * MILLION,
        GOOD[:-1] + b', "unknown": ' + b"[" * MILLION + b"]" * MILLION + b"}",
        b'{"a":' * MILLION,
    ],
    ids=["open", "closed", "objects"],
)
def test_a_million_levels_are_too_deep_and_take_nothing_down(body: bytes) -> None:
    assert refusal(body).message == "The body is nested too deeply."


@pytest.mark.parametrize(("field", "param"), [("query", "query"), ("documents", "documents[0]")])
def test_a_million_levels_in_a_field_of_ours_are_that_fields_fault(field: str, param: str) -> None:
    assert refusal(f'{{"{field}": '.encode() + b"[" * MILLION).param == param


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5000, "1e-400"])
def test_a_number_that_nobody_reads_may_be_of_any_size(number: str) -> None:
    for dialect in DIALECTS:
        assert dialect.parse_request(with_field("unknown", number)).query == "q"


def parsed(dialect: Dialect, body: bytes) -> RerankRequest | None:
    """The request, or None where it was refused with a BadRequest that is fit to show."""
    try:
        return dialect.parse_request(body)
    except BadRequest as refused:
        error = refused
    assert error.message.endswith(".")
    assert "msgspec" not in error.message
    assert error.param is None or re.sub(r"\[\d+\]", "[]", error.param) in EXPECTED
    return None


@given(body=st.binary(max_size=80))
@example(body=b'{"query":' + b"\x80" * 9)
def test_no_bytes_whatever_raise_anything_but_a_bad_request(body: bytes) -> None:
    assert [parsed(dialect, body) for dialect in DIALECTS] == [None, None]


@given(at=st.integers(0, len(GOOD)), cut=st.integers(0, 5), put=st.binary(max_size=5))
def test_no_damage_to_a_good_body_raises_anything_but_a_bad_request(at: int, cut: int, put: bytes) -> None:
    body = GOOD[:at] + put + GOOD[at + cut :]
    local, superset = (parsed(dialect, body) for dialect in DIALECTS)
    assert (local is None) == (superset is None)
    if body == GOOD:
        assert local is not None


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
DOCUMENT = st.text(max_size=5) | st.fixed_dictionaries({"text": st.text(max_size=5)}, optional={"x": st.integers()})
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.none() | st.text(max_size=5),
    "query": st.text(max_size=5),
    "documents": st.lists(DOCUMENT, max_size=4),
    "top_n": st.none() | st.integers(-2, 100),
    "return_documents": st.none() | st.booleans(),
    "return_embeddings": st.none() | st.booleans(),
    "instruction": st.none() | st.text(max_size=5),
    "max_tokens_per_doc": st.none() | st.integers(-1, 100),
    "max_chunks_per_doc": st.none() | st.integers(-1, 100) | st.just(MOST_CHUNKS + 1),
    "overlap_tokens": st.none() | st.integers(-2, 100) | st.just(MOST_OVERLAP + 1),
    "truncation": st.none() | st.booleans(),
    "priority": st.none() | st.integers() | st.sampled_from(["interactive", "batch"]),
}
NOT_ONE_VALUE = st.lists(ANY_JSON, max_size=4) | st.dictionaries(st.text(max_size=3), ANY_JSON, max_size=4)
"""What no reading of a single value can understand; numbers and truth values are also read out of strings."""
BODIES = st.fixed_dictionaries(
    {}, optional={name: sound | NOT_ONE_VALUE for name, sound in FIELDS.items()} | {"unknown": st.integers()}
)


def is_sound(body: dict[str, Any]) -> bool:
    """Whether these fields are a request, said a second time and in another way."""
    documents, top_n = body.get("documents"), body.get("top_n")
    items = documents if isinstance(documents, list) else []
    texts = [item.get("text") if isinstance(item, dict) else item for item in items]
    return (
        bool(texts)
        and all(isinstance(text, str) for text in texts)
        and isinstance(body.get("query"), str)
        and body["query"] != ""
        and (top_n is None or (type(top_n) is int and top_n >= 0))
        and isinstance(body.get("model"), str | None)
        and isinstance(body.get("return_documents"), bool | None)
        and isinstance(body.get("return_embeddings"), bool | None)
        and isinstance(body.get("instruction"), str | None)
        and isinstance(body.get("truncation"), bool | None)
        and is_within(body.get("max_tokens_per_doc"), 0, MOST_TOKENS)
        and is_within(body.get("max_chunks_per_doc"), 0, MOST_CHUNKS)
        and is_within(body.get("overlap_tokens"), 0, MOST_OVERLAP)
        and (type(body.get("priority")) is int or body.get("priority") in (None, "interactive", "batch"))
    )


def is_within(value: object, least: int, most: int) -> bool:
    return value is None or (type(value) is int and least <= value <= most)


@given(body=BODIES)
def test_an_object_is_a_request_exactly_when_all_of_its_fields_are_sound(body: dict[str, Any]) -> None:
    for dialect in DIALECTS:
        request = parsed(dialect, json.dumps(body).encode())
        assert (request is not None) == is_sound(body)
        if request is not None:
            assert request.query == body["query"]
            assert len(request.documents) == len(body["documents"])


@given(body=ANY_JSON)
def test_no_json_whatever_raises_anything_but_a_bad_request(body: Any) -> None:
    for dialect in DIALECTS:
        request = parsed(dialect, json.dumps(body).encode())
        assert (request is not None) == (isinstance(body, dict) and is_sound(body))
