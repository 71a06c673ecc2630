"""The books: what is asked of the database about keys, channels, usage, the ledger, kept answers and changes; whoever starts
the server opens them, and the server opens and closes what runs in its event loop.

Every change takes the `actor`, which stands in the log of changes; change and row are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rerankd.accounts import Entry, Spent
from rerankd.policies.idempotent import Claims
from rerankd.secret import Secret
from rerankd.store.key_records import ChangeOf, KeyChange, KeyRecord, KeyState, NewKey
from rerankd.store.records import Change, LedgerPage, LedgerQuery, UsageQuery, UsageSum
from rerankd.stored_channels import Store


class KeyBook(Protocol):
    """What is asked of `store.keys.KeyStore`; a key is called by its id or its name."""

    @property
    def every(self) -> float: ...  # seconds after which to look at the version again
    def digest(self, key: bytes) -> bytes: ...
    async def version(self) -> int: ...
    async def state(self, ids: Collection[str] = ...) -> KeyState: ...
    async def list(self) -> Sequence[KeyRecord]: ...
    async def get(self, name: str) -> KeyRecord: ...
    async def create(self, new: NewKey, *, actor: str) -> tuple[KeyRecord, Secret]: ...
    async def update(self, name: str, change: KeyChange | ChangeOf, *, actor: str) -> KeyRecord: ...
    async def rotate(self, name: str, overlap: int = ..., *, actor: str) -> tuple[KeyRecord, Secret]: ...
    async def revoke(self, name: str, *, actor: str) -> KeyRecord: ...


class UsageBook(Protocol):
    """What is asked of `store.usage.UsageBook`. Everything raises `StoreUnavailable` where the database is away."""

    async def sums(self, query: UsageQuery) -> Sequence[UsageSum]: ...
    async def rows(self, query: LedgerQuery) -> LedgerPage: ...
    async def row(self, entry: str) -> Entry | None: ...


class AuditLog(Protocol):
    """What is asked of `store.audit.AuditLog`."""

    async def write(
        self,
        actor: str,
        action: str,
        target: str,
        before: dict[str, Any] | None = ...,
        after: dict[str, Any] | None = ...,
    ) -> None: ...
    async def page(self, before: int | None = ..., limit: int = ...) -> Sequence[Change]: ...
    async def forget(self, days: int) -> int: ...


class Ledger(Protocol):
    """What is asked of `store.ledger.StoredLedger`."""

    async def open(self) -> None: ...
    async def record(self, entry: Entry, *, others: bool = ...) -> int: ...
    def note(self, entry: Entry) -> None: ...
    @property
    def visible(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def healthy(self) -> bool: ...
    async def spent(self, key_id: str) -> Spent: ...
    async def forget(self, days: int) -> int: ...
    async def stop(self) -> None: ...
    def close(self) -> None: ...


class ClaimBook(Claims, Protocol):
    """What is asked of `store.idempotency.StoredClaims`."""

    async def prune(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Books:
    """What is None is not kept here: the server has no database, or its ledger is off."""

    channels: Store | None = None
    keys: KeyBook | None = None
    usage: UsageBook | None = None
    ledger: Ledger | None = None
    claims: ClaimBook | None = None
    audit: AuditLog | None = None
