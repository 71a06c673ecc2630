"""What /admin/api is sent and says of keys; the text of a key is in one answer, the one to whoever made it."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rerankd.accounts import Limits, Quotas, Scope
from rerankd.store.key_records import (
    LARGEST,
    LONGEST_MODEL,
    LONGEST_NAME,
    MOST_MODELS,
    MOST_NETWORKS,
    KeyChange,
    KeyRecord,
    NewKey,
)

LONGEST_OVERLAP = 30 * 86_400

Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME, description="Printable; no other key has it.")]
Models = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=LONGEST_MODEL)], ...],
    Meta(max_length=MOST_MODELS, description="Which models it may use; empty is all."),
]
Networks = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...],
    Meta(max_length=MOST_NETWORKS, description="From where it may be used, such as 10.0.0.0/8; empty is everywhere."),
]
Number = Annotated[int, Meta(ge=1, le=LARGEST)]
Expires = Annotated[int, Meta(ge=1, le=LARGEST, description="Seconds since 1970.")]

A_NUMBER = f"a whole number from 1 to {LARGEST}, or null for none"
EXPECTED = {
    "name": f"a printable name of at most {LONGEST_NAME} characters",
    "scope": "rank or admin",
    "models": f"a list of at most {MOST_MODELS} models",
    "models[]": f"the name of a model, of at most {LONGEST_MODEL} characters",
    "networks": f"a list of at most {MOST_NETWORKS} networks",
    "networks[]": "an address, or one with a length, such as 10.0.0.0/8",
    "limits": "an object of requests, tokens, documents and concurrency",
    "quotas": "an object of total, month and day",
    **{f"limits.{name}": A_NUMBER for name in Limits.__struct_fields__},
    **{f"quotas.{name}": A_NUMBER for name in Quotas.__struct_fields__},
    "shared_cache": "true or false",
    "strict": "true or false",
    "enabled": "true or false",
    "expires": "seconds since 1970, or null for never",
    "overlap_seconds": f"a whole number from 0 to {LONGEST_OVERLAP}",
}

Values = TypeVar("Values", Limits, Quotas)


class LimitsBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The most in any 60 seconds, and of requests at one time; null is no limit."""

    requests: Number | UnsetType | None = UNSET
    tokens: Number | UnsetType | None = UNSET
    documents: Number | UnsetType | None = UNSET
    concurrency: Number | UnsetType | None = UNSET


class QuotasBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The most tokens in all, in a month and in a day of UTC; null is no quota."""

    total: Number | UnsetType | None = UNSET
    month: Number | UnsetType | None = UNSET
    day: Number | UnsetType | None = UNSET


class NewKeyBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: Name
    scope: Scope = "rank"
    models: Models = ()
    networks: Networks = ()
    limits: LimitsBody = msgspec.field(default_factory=LimitsBody)
    quotas: QuotasBody = msgspec.field(default_factory=QuotasBody)
    shared_cache: bool = False
    strict: bool = False
    expires: Expires | None = None

    def new_key(self) -> NewKey:
        given = msgspec.structs.asdict(self)
        given.update(limits=_over(Limits(), self.limits), quotas=_over(Quotas(), self.quotas))
        return NewKey(**given)


class KeyChangeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is not given stays as it is; so does each limit and each quota."""

    name: Name | UnsetType = UNSET
    models: Models | UnsetType = UNSET
    networks: Networks | UnsetType = UNSET
    limits: LimitsBody | UnsetType = UNSET
    quotas: QuotasBody | UnsetType = UNSET
    shared_cache: bool | UnsetType = UNSET
    strict: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    expires: Expires | UnsetType | None = UNSET

    def change_of(self, before: KeyRecord) -> KeyChange:
        given = msgspec.structs.asdict(self)
        if self.limits is not UNSET:
            given["limits"] = _over(before.limits, self.limits)
        if self.quotas is not UNSET:
            given["quotas"] = _over(before.quotas, self.quotas)
        return KeyChange(**given)


class RotateBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    overlap_seconds: Annotated[
        int, Meta(ge=0, le=LONGEST_OVERLAP, description="For how long the key from before is good too.")
    ] = 86_400


class KeyList(msgspec.Struct):
    keys: list[KeyRecord]


class MadeKey(KeyRecord, frozen=True, kw_only=True):
    """`key` is the key itself, which nobody can tell again."""

    key: str

    def __repr__(self) -> str:
        return "MadeKey(***)"


def _over(before: Values, given: msgspec.Struct) -> Values:
    said = {name: value for name, value in msgspec.structs.asdict(given).items() if value is not UNSET}
    return msgspec.structs.replace(before, **said)
