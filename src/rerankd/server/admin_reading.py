"""What /admin/api is sent, read as types with a bound on everything; a field or a parameter that is not known is refused,
since a mistyped limit must not mean no limit.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from rerankd.channels.keys import Secret
from rerankd.dialects.decoding import decode
from rerankd.errors import BadRequest, BadSettings, ClientError, Conflict, UnknownField, UnsupportedMedia
from rerankd.server.admin_route import JSON
from rerankd.server.bodies import by_name, read_body

LARGEST_BODY = 2**18
LONGEST_SECRET = 4096
MISSING = re.compile(r"Object missing required field `(\w+)`\Z")
A_NAME_IN = re.compile(r" - at `key` in `\$\.(\w+)`\Z")
UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?([^`]*)`)?\Z", re.DOTALL)
AT = re.compile(r" - at `\$\.?([^`\[]*)")

Kind = TypeVar("Kind")
Query = TypeVar("Query", bound=msgspec.Struct)
Kept = TypeVar("Kept")

Text = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00]*\Z")]
"""A value to be compared with: no database can hold, and PostgreSQL cannot be asked for, the character 0."""
Cursor = Annotated[str, Meta(max_length=4096, description="The `next` of an earlier answer.")]


async def read(request: Request, kind: type[Kind], expected: Mapping[str, str]) -> Kind:
    """The body of a request, which has to say that it is JSON: another site's page cannot say that without being asked.

    `expected` says what each field must be. Raises a `ClientError` that names the field and quotes none.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMedia("Send the body with `content-type: application/json`.")
    body = await read_body(by_name(request.scope["headers"]), request.receive, LARGEST_BODY)
    decoder = msgspec.json.Decoder(kind, dec_hook=_secret)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        wrong = _whole(str(error), expected)
    except (msgspec.DecodeError, RecursionError):
        wrong = None
    if wrong is not None:
        raise wrong
    return decode(decoder, body, expected)  # once more, for its error


def read_query(request: Request, kind: type[Query], expected: Mapping[str, str]) -> Query:
    """The parameters behind the `?`. Raises a `ClientError` that names the parameter and quotes none of its value."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise UnknownField(
                f"There is no parameter `{name[:100]}` here; there are: {', '.join(sorted(known))}.", param=name[:100]
            )
        if name in given:
            raise BadRequest(f"`{name}` is given twice.", param=name)
        given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        at = AT.search(str(error)) or MISSING.search(str(error))
        name = at[1] if at else ""
        raise BadRequest(f"`{name}` must be {expected[name]}.", param=name) from None


def part_of_path(request: Request, name: str) -> str:
    value: str = request.path_params[name]
    return value


def answered(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type=JSON)


def kept(book: Kept | None, what: str) -> Kept:
    """Raises `Conflict` where there is no such book."""
    if book is None:
        raise Conflict(f"This server keeps no {what}; `rerankd serve` does, where it has a database.")
    return book


def cursor_of(values: tuple[Any, ...]) -> str:
    """What a client gives back to have what comes after these values; it holds nothing that the page did not show."""
    return urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def values_of(cursor: str, kind: type[Kind], name: str) -> Kind:
    """Raises `BadRequest` where it is no cursor of ours."""
    with suppress(ValueError, msgspec.MsgspecError):
        return msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=kind)
    raise BadRequest(f"`{name}` must be what an earlier answer gave.", param=name)


def actor_of(request: Request) -> str:
    """Who asks, for the log of changes: the check has found that out. Nobody but this machine can ask without a key."""
    caller = request.state.caller
    return "this machine" if caller is None else f"{caller.name} ({caller.id})"


def _whole(reason: str, expected: Mapping[str, str]) -> ClientError | None:
    """What is wrong with the object itself, or with a name in it; None where a field's value is."""
    if found := MISSING.match(reason):
        return BadRequest(f"`{found[1]}` is missing; it must be {expected[found[1]]}.", param=found[1])
    if found := UNKNOWN.match(reason):
        name = ".".join(part for part in (found[2], found[1][:100]) if part)
        return UnknownField(f"There is no field `{name}` here.", param=name)
    if found := A_NAME_IN.search(reason):
        return BadRequest(f"A name in `{found[1]}` is wrong; it must be {expected[found[1]]}.", param=found[1])
    return None


def _secret(kind: type[Any], value: Any) -> Any:
    if kind is Secret and isinstance(value, str) and len(value) <= LONGEST_SECRET:
        with suppress(BadSettings):
            return Secret(value)
    raise ValueError("no key")
