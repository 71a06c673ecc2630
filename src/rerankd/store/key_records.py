"""Keys as values that come without a database: what may be shown of one, what a new one is, and what can change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

import msgspec
from msgspec import UNSET, UnsetType

from rerankd.accounts import Limits, Quotas, Scope
from rerankd.errors import BadRequest

LONGEST_NAME, LONGEST_MODEL = 100, 256
MOST_MODELS, MOST_NETWORKS = 1000, 1000
LARGEST = 10**15


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that may be shown of a key; nothing of its secret. Times are in seconds since 1970.

    It ranks with `models`, or with all where there are none, from `networks`, or from everywhere. `shared_cache` is the one
    that keys have in common, instead of one of its own. Until `former_until` the key from before a rotation is good too.
    """

    id: str
    name: str
    scope: Scope
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    limits: Limits = Limits()
    quotas: Quotas = Quotas()
    shared_cache: bool = False
    strict: bool = False
    enabled: bool = True
    expires: int | None = None
    revoked: int | None = None
    former_until: int | None = None
    created: int
    updated: int

    def usable(self, now: float) -> bool:
        return self.enabled and self.revoked is None and (self.expires is None or self.expires > now)


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As `KeyRecord`, of what is chosen when a key is made."""

    name: str
    scope: Scope = "rank"
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    limits: Limits = Limits()
    quotas: Quotas = Quotas()
    shared_cache: bool = False
    strict: bool = False
    expires: int | None = None


class KeyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is given takes the place of what was; what is not stays."""

    name: str | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType = UNSET
    networks: tuple[str, ...] | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    quotas: Quotas | UnsetType = UNSET
    shared_cache: bool | UnsetType = UNSET
    strict: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    expires: int | UnsetType | None = UNSET


ChangeOf = Callable[[KeyRecord], KeyChange]
"""A change that depends on what the key is at that moment; nobody else changes it in between."""


@dataclass(frozen=True, kw_only=True)
class HeldKey:
    """A key with what it is checked against, which is in no repr."""

    record: KeyRecord
    digest: bytes = field(repr=False)
    former: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class KeyState:
    """At one moment: the `version`, another one after each change of any key; whether a key that ranks was ever `made`, and
    whether one is `usable`; and those that were asked for, by their ids.
    """

    version: int
    made: bool
    usable: bool
    held: Mapping[str, HeldKey]


def checked(record: KeyRecord) -> KeyRecord:
    """The record with its networks written in one way. Raises `BadRequest`, naming the field that cannot be."""
    if not record.name.strip() or len(record.name) > LONGEST_NAME or not record.name.isprintable():
        raise BadRequest(
            f"A key's name is printable, not empty, and has at most {LONGEST_NAME} characters.", param="name"
        )
    if len(record.models) > MOST_MODELS or any(not 0 < len(model) <= LONGEST_MODEL for model in record.models):
        raise BadRequest(
            f"A key lists at most {MOST_MODELS} models, with names of 1 to {LONGEST_MODEL} characters.", param="models"
        )
    if len(record.networks) > MOST_NETWORKS:
        raise BadRequest(f"A key lists at most {MOST_NETWORKS} networks.", param="networks")
    for field_name in ("limits", "quotas"):
        for name, number in msgspec.structs.asdict(getattr(record, field_name)).items():
            if number is not None and not 1 <= number <= LARGEST:
                raise BadRequest(f"{name} is a whole number from 1 to {LARGEST}.", param=f"{field_name}.{name}")
    if record.expires is not None and not 0 < record.expires < LARGEST:
        raise BadRequest("`expires` is in seconds since 1970.", param="expires")
    return msgspec.structs.replace(record, networks=tuple(map(_network, record.networks)))


def _network(text: str) -> str:
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        raise BadRequest(
            f"{text[:100]!r} is no network: one is an address, or one with a length, such as 10.0.0.0/8.",
            param="networks",
        ) from None
