"""A body becomes a typed struct in one pass, or an error that says where it went wrong: line and column, or the field.

Unknown fields are passed over, null is absent, what is said in a string is heard, and neither nesting nor numbers can be
used to exhaust the process.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from rerankd.errors import BadRequest, UpstreamMalformed

Shape = TypeVar("Shape")

AT_BYTE = re.compile(r"\(byte (\d+)\)")
AT_PATH = re.compile(r" - at `\$\.?([^`]*)`\Z")
GOT = re.compile(r"got `(\w+)`")
MISSING = re.compile(r"missing required field `(\w+)`")
OF_A_CHOICE = "Invalid enum value"
INDEX = re.compile(r"\[\d+\]")
UNESCAPED = rb"(?<!\\)(?:\\\\)*"
LONE_SURROGATE = re.compile(
    UNESCAPED + rb"(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?|\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
"""Surrogates, whole pairs among them: a match of 6 characters is half of one."""
KINDS = {
    "null": "null",
    "bool": "true or false",
    "int": "a number",
    "float": "a decimal number",
    "str": "a string",
    "array": "a list",
    "object": "an object",
}


def reader(kind: type[Shape]) -> msgspec.json.Decoder[Shape]:
    """A decoder of requests, which reads "true" and "3" where a boolean and a number should be: RAGFlow sends the one."""
    return msgspec.json.Decoder(kind, strict=False)


def decode(decoder: msgspec.json.Decoder[Shape], body: bytes, expected: Mapping[str, str]) -> Shape:
    """The body as the decoder's type. `expected` says what each field must be, as in `{"query": "a string"}`.

    Raises `BadRequest`.
    """
    try:
        if not body.isascii():
            body.decode()  # what stands in an unknown field is passed over unread, but must be text too
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error), expected) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not JSON: {_where_and_why(body, str(error))}.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None


def convert(values: Mapping[str, object], kind: type[Shape], expected: Mapping[str, str]) -> Shape:
    """Python values as `kind`, checked as a body's are. Raises `BadRequest`."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error), expected) from None


def decode_answer(decoder: msgspec.json.Decoder[Shape], body: bytes) -> Shape:
    """An upstream's answer as the decoder's type. Raises `UpstreamMalformed`."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamMalformed("The answer is not of the format that it should be.") from None


def _wrong_field(reason: str, expected: Mapping[str, str]) -> BadRequest:
    path = AT_PATH.search(reason)
    if path is None:
        return BadRequest(f"The body must be a JSON object{_but_got(reason)}.")
    param = path.group(1)
    must_be = _expected(param, expected)
    if reason.startswith(OF_A_CHOICE):  # the one reason that quotes the client: nothing more is read from it
        return BadRequest(f"`{param}` must be {must_be}.", param=param)
    missing = MISSING.search(reason)
    if missing:
        return BadRequest(f"`{param}` lacks `{missing.group(1)}`; it must be {must_be}.", param=param)
    if "out of range" in reason:
        return BadRequest(f"`{param}` is out of range.", param=param)
    return BadRequest(f"`{param}` must be {must_be}{_but_got(reason)}.", param=param)


def kind_of(value: object) -> str:
    """What a client is told that a JSON value is."""
    names = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str", list: "array", dict: "object"}
    return KINDS[names[type(value)]]


def _expected(path: str, expected: Mapping[str, str]) -> str:
    """By the whole path, or by the field's own name where it stands in another object."""
    whole = INDEX.sub("[]", path)
    return expected.get(whole) or expected.get(whole.rpartition(".")[2]) or "of another type"


def _but_got(reason: str) -> str:
    """What was found instead, where the reason says more than that a bound was passed."""
    got = GOT.search(reason)
    return f", not {KINDS.get(got.group(1), got.group(1))}" if got else ""


def _where_and_why(body: bytes, reason: str) -> str:
    if body.startswith(codecs.BOM_UTF8):
        return "it starts with a byte order mark; send UTF-8 without one"
    if b"\x00" in body[:4]:
        return "it is not UTF-8, but looks like UTF-16 or UTF-32"
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"{_position(body, error.start)} holds a byte that is not UTF-8"
    at = AT_BYTE.search(reason)
    lone = _lone_surrogate(body) if at is None or "escape" in reason else None
    if lone is not None:
        return f"{_position(body, lone)} holds half of a surrogate pair, which is no character"
    if at is None:
        return f"it ends at {_position(body, len(body))} before it is complete" if body.strip() else "it is empty"
    offset = int(at.group(1)) - ("trailing characters" in reason)
    return f"{_position(body, offset)}: {_hint(body[offset : offset + 5], reason)}"


def _lone_surrogate(body: bytes) -> int | None:
    """Where the first `\\u` escape of half a surrogate pair begins."""
    for found in LONE_SURROGATE.finditer(body):
        escape = found.group().lstrip(b"\\")
        if len(escape) == len("d800") + 1:
            return found.end() - len("\\ud800")
    return None


def _hint(found: bytes, reason: str) -> str:
    for start, hint in (
        (b"#", "JSON has no comments"),
        (b"//", "JSON has no comments"),
        (b"True", "JSON writes true"),
        (b"False", "JSON writes false"),
        (b"None", "JSON writes null"),
        (b"NaN", "JSON has no NaN"),
        (b"Infin", "JSON has no Infinity"),
        (b"'", "JSON strings stand in double quotes"),
    ):
        if found.startswith(start):
            return hint
    return AT_BYTE.sub("", reason).removeprefix("JSON is malformed: ").strip()


def _position(body: bytes, offset: int) -> str:
    before = body[:offset]
    line_start = before.rfind(b"\n") + 1
    column = len(before[line_start:].decode("utf-8", "replace")) + 1
    line = before.count(b"\n") + 1
    return f"line {line}, column {column}"
