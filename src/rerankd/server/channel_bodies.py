"""What /admin/api is sent, as types with a bound on everything; a field that is not known is refused, since a mistyped limit
must not mean no limit.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request

from rerankd.channels.keys import Secret
from rerankd.dialects.decoding import decode
from rerankd.errors import BadRequest, BadSettings, ClientError, UnknownField, UnsupportedMedia
from rerankd.server.bodies import read_body
from rerankd.settings import ChannelSettings

LARGEST_BODY = 2**18
LONGEST_KEY = 4096
MISSING = re.compile(r"Object missing required field `(\w+)`\Z")
A_NAME_IN = re.compile(r" - at `key` in `\$\.(\w+)`\Z")
UNKNOWN = re.compile(r"Object contains unknown field `(.*)`\Z", re.DOTALL)

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=64)]
Model = Annotated[str, Meta(pattern=r"^[!-~]+\Z", max_length=200)]
Upstreams = Annotated[str, Meta(min_length=1, max_length=200)]
Address = Annotated[str, Meta(pattern=r"^https?://", max_length=2048)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=100)]
HeaderValue = Annotated[str, Meta(max_length=LONGEST_KEY)]

EXPECTED = {
    "name": "at most 64 letters, digits, dots, hyphens and underscores",
    "dialect": "the name of a wire format",
    "base_url": "a URL that starts with http:// or https://",
    "proxy": "a URL that starts with http:// or https://",
    "api_keys": "a list of at most 100 keys",
    "api_keys[]": f"a key of visible ASCII, of at most {LONGEST_KEY} characters",
    "api_key": f"a key of visible ASCII, of at most {LONGEST_KEY} characters",
    "models": "an object of public names, in visible ASCII, and the upstream's names",
    "models[...]": "a model's name, of at most 200 characters",
    "headers": "an object of at most 100 headers",
    "headers[...]": f"the text of a header, of at most {LONGEST_KEY} characters",
    "model": "a model's name, of at most 200 characters",
    "priority": "a whole number from -1000 to 1000",
    "weight": "a number above 0 and up to 1000",
    "timeout": "seconds, above 0 and up to 3600",
    "max_documents": "a whole number from 1 to 1000000",
    "max_tokens": "a whole number from 1 to 1000000000",
    "listwise": "true or false",
    "allow_private": "true or false",
    "score": "probability, logit or cosine",
}


class ChannelBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a channel is, but for its name. `api_keys`, `headers` and `proxy` are written and never shown."""

    dialect: Annotated[str, Meta(min_length=1, max_length=64)]
    base_url: Address
    models: Annotated[dict[Model, Upstreams], Meta(min_length=1, max_length=1000)]
    api_keys: Annotated[list[Secret], Meta(max_length=100)] | UnsetType = UNSET
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=100)] | UnsetType = UNSET
    proxy: Address | UnsetType | None = UNSET
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    timeout: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    max_documents: Annotated[int, Meta(ge=1, le=10**6)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    listwise: bool = False
    score: Literal["probability", "logit", "cosine"] = "probability"
    allow_private: bool = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def settings(self, name: str) -> ChannelSettings:
        fields = {field: getattr(self, field) for field in ChannelBody.__struct_fields__ if field != "api_keys"}
        given = {field: value for field, value in fields.items() if value is not UNSET}
        return ChannelSettings(name=name, **given)

    @property
    def keys(self) -> list[Secret] | None:
        """None where none were given, which is not the same as an empty list."""
        return None if self.api_keys is UNSET else self.api_keys


class NewChannelBody(ChannelBody, kw_only=True):
    name: Name


class DetectBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    base_url: Address
    model: Upstreams
    api_key: Secret | None = None
    allow_private: bool = False


Body = TypeVar("Body")


async def read(request: Request, kind: type[Body]) -> Body:
    """The body of a request, which has to say that it is JSON: another site's page cannot say that without being asked.

    Raises a `ClientError` that names the field and quotes none.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMedia("Send the body with `content-type: application/json`.")
    body = await read_body(request, LARGEST_BODY)
    decoder = msgspec.json.Decoder(kind, dec_hook=_secret)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        wrong = _whole(str(error))
    except (msgspec.DecodeError, RecursionError):
        wrong = None
    if wrong is not None:
        raise wrong
    return decode(decoder, body, EXPECTED)  # once more, for its error


def _whole(reason: str) -> ClientError | None:
    """What is wrong with the object itself, or with a name in it; None where a field's value is."""
    if found := MISSING.match(reason):
        return BadRequest(f"`{found[1]}` is missing; it must be {EXPECTED[found[1]]}.", param=found[1])
    if found := UNKNOWN.match(reason):
        return UnknownField(f"There is no field `{found[1][:100]}` here.", param=found[1][:100])
    if found := A_NAME_IN.search(reason):
        return BadRequest(f"A name in `{found[1]}` is wrong; it must be {EXPECTED[found[1]]}.", param=found[1])
    return None


def _secret(kind: type[Any], value: Any) -> Any:
    if kind is Secret and isinstance(value, str) and len(value) <= LONGEST_KEY:
        with suppress(BadSettings):
            return Secret(value)
    raise ValueError("no key")


def schema(kind: type) -> dict[str, Any]:
    """For /openapi.json."""
    described = msgspec.json.schema(kind, schema_hook=lambda _: {"type": "string", "writeOnly": True})
    body: dict[str, Any] = described["$defs"][kind.__name__]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}
