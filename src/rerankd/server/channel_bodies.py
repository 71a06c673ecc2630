"""What /admin/api is sent and says of channels."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rerankd.channels.detect import Finding
from rerankd.channels.keys import Secret
from rerankd.channels.probe import Verdict
from rerankd.policies.breaker import Status
from rerankd.server.admin_reading import LONGEST_SECRET
from rerankd.settings import ChannelSettings

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=64)]
Model = Annotated[str, Meta(pattern=r"^[!-~]+\Z", max_length=200)]
Upstreams = Annotated[str, Meta(min_length=1, max_length=200)]
Address = Annotated[str, Meta(pattern=r"^https?://", max_length=2048)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=100)]
HeaderValue = Annotated[str, Meta(max_length=LONGEST_SECRET)]

EXPECTED = {
    "name": "at most 64 letters, digits, dots, hyphens and underscores",
    "dialect": "the name of a wire format",
    "base_url": "a URL that starts with http:// or https://",
    "proxy": "a URL that starts with http:// or https://",
    "api_keys": "a list of at most 100 keys",
    "api_keys[]": f"a key of visible ASCII, of at most {LONGEST_SECRET} characters",
    "api_key": f"a key of visible ASCII, of at most {LONGEST_SECRET} characters",
    "models": "an object of public names, in visible ASCII, and the upstream's names",
    "models[...]": "a model's name, of at most 200 characters",
    "headers": "an object of at most 100 headers",
    "headers[...]": f"the text of a header, of at most {LONGEST_SECRET} characters",
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


class ChannelModel(msgspec.Struct, kw_only=True):
    """What a channel calls the model, and how its breaker is; times are of the server's own clock, in seconds."""

    upstream: str
    status: Status
    since: float
    until: float | None
    last_error: str | None
    calls: int
    failures: int


class ShownChannel(msgspec.Struct, kw_only=True):
    """All that a channel is, save what may hold a secret: of its headers the names, and whether there is a proxy."""

    name: str
    origin: Literal["store", "file"]
    dialect: str
    base_url: str
    keys: int
    headers: list[str]
    proxy: bool
    priority: int
    weight: float
    timeout: float
    max_documents: int | None
    max_tokens: int | None
    listwise: bool
    score: Literal["probability", "logit", "cosine"]
    allow_private: bool
    models: dict[str, ChannelModel]


class ChannelList(msgspec.Struct):
    channels: list[ShownChannel]


class Tried(msgspec.Struct):
    """What became of one question, for each model of the channel."""

    channel: str
    models: dict[str, Verdict]


class Detected(msgspec.Struct):
    """The format that fits, null where none does, and what each attempt got."""

    dialect: str | None
    evidence: list[Finding]
