"""Keys in the database: of each its HMAC, and what may be shown. Every change has another version, in the same transaction.

So a server that looks at one number knows whether what it remembers is still true. Changes are made one after another, on
PostgreSQL too: each begins with the row of that number. Each stands in the log of changes, under who made it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from secrets import token_bytes
from time import time
from typing import Any

import msgspec
from sqlalchemy import Select, and_, exists, func, insert, not_, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.api_keys import SHORTEST_PEPPER, digest_of, make_id, make_key
from rerankd.errors import BadRequest, BadSettings, Conflict, NotFound
from rerankd.secret import Secret
from rerankd.store.audit import write_in
from rerankd.store.database import Database
from rerankd.store.key_records import ChangeOf, HeldKey, KeyChange, KeyRecord, KeyState, NewKey, checked
from rerankd.store.pepper import Pepper, pepper_id
from rerankd.store.tables import FACTS, KEYS

log = logging.getLogger("rerankd.store")

ADMIN = "admin"
"""The name of the admin's key."""
OVERLAP, LONGEST_OVERLAP = 86_400, 30 * 86_400
"""Seconds for which the key from before a rotation is good."""
VERSION, PEPPER = "keys.version", "pepper"
FIELDS = ("models", "networks", "limits", "quotas", "shared_cache", "strict")
"""Those of a record that have no column of their own."""
NO_FACT = text("INSERT INTO facts (name, number, text) VALUES (:name, 0, '') ON CONFLICT (name) DO NOTHING")


class KeyStore:
    """Methods that change raise `StoreUnavailable` or `EngineError` where the database does not do it; then nothing changed.

    `actor` is who is written down as having made the change.
    """

    def __init__(self, database: Database, pepper: str | None = None) -> None:
        """`pepper` is the settings'. Raises `BadSettings` where it is too short. Nothing is opened yet."""
        self._database = database
        self._pepper = Pepper(pepper, database.file)
        self._known: bytes | None = None
        self._unlike = token_bytes(SHORTEST_PEPPER)

    @property
    def every(self) -> float:
        """Seconds after which to look at the version again."""
        return 2.0 if self._database.is_postgres else 0.4

    async def prepare(self) -> None:
        """The pepper is read, or made where there is none, and compared with the one that the keys were made with.

        Raises `BadSettings` where it is another one or is lost, saying what to do; `StoreUnavailable` where nobody can tell.
        """
        if self._known is not None:
            return
        async with self._database.transaction() as connection:
            await connection.execute(NO_FACT, {"name": PEPPER})
            row = select(FACTS.c.text).where(FACTS.c.name == PEPPER).with_for_update()
            before = (await connection.execute(row)).scalar_one()
            in_use = exists().where(KEYS.c.revoked.is_(None))
            bound = bool(before) and bool((await connection.execute(select(in_use))).scalar_one())
            pepper = self._pepper.read()
            if pepper is None:
                if bound:
                    raise BadSettings(_lost(f"There is no pepper in {self._pepper.file}"))
                pepper = self._pepper.make()
            if bound and pepper_id(pepper) != before:
                raise BadSettings(_lost(f"The pepper in {self._pepper.origin} is another one"))
            if pepper_id(pepper) != before:
                await connection.execute(update(FACTS).where(FACTS.c.name == PEPPER).values(text=pepper_id(pepper)))
        self._known = pepper

    def digest(self, key: bytes) -> bytes:
        """What `HeldKey` is compared with. Before `prepare` it is like nothing that is kept."""
        return digest_of(key, self._known or self._unlike)

    async def create(self, new: NewKey, *, actor: str) -> tuple[KeyRecord, Secret]:
        """The record, and the key itself, which nobody can tell again.

        Raises `BadRequest`, naming a field, and `Conflict` where there is a key of the name; a revoked one gives it up.
        """
        if new.name == ADMIN and new.scope != "admin":
            raise BadRequest(f"{ADMIN} is the name of the admin's key; choose another.", param="name")
        await self.prepare()
        async with self._changing() as connection:
            return await self._added(connection, new, actor)

    async def ensure_admin(self, *, actor: str = "start") -> Secret | None:
        """The admin's key where there was none and this call has made it; None where there is one.

        Raises `Conflict` where a key that ranks has its name.
        """
        await self.prepare()
        async with self._changing() as connection:
            there = exists().where(KEYS.c.scope == "admin", KEYS.c.revoked.is_(None))
            if (await connection.execute(select(there))).scalar_one():
                return None
            return (await self._added(connection, NewKey(name=ADMIN, scope="admin"), actor))[1]

    async def list(self) -> Sequence[KeyRecord]:
        """All, the oldest first. Raises `BadSettings`, naming one that cannot be read."""
        if not self._database.exists:
            return []
        async with self._database.transaction(reading=True) as connection:
            found = await connection.execute(select(KEYS).order_by(KEYS.c.created, KEYS.c.name))
            return [_record(dict(row)) for row in found.mappings()]

    async def get(self, name: str) -> KeyRecord:
        """By its id or its name. Raises `NotFound`."""
        if not self._database.exists:
            raise _unknown(name)
        async with self._database.transaction(reading=True) as connection:
            return _record(await _row(connection, name))

    async def update(self, name: str, change: KeyChange | ChangeOf, *, actor: str) -> KeyRecord:
        """Raises `NotFound`, `BadRequest` naming a field, and `Conflict` where it is revoked or the new name is taken."""
        async with self._changing() as connection:
            before = _living(await _row(connection, name))
            fields = msgspec.structs.asdict(change(before) if callable(change) else change)
            given = {field: value for field, value in fields.items() if value is not msgspec.UNSET}
            after = checked(msgspec.structs.replace(before, **given, updated=int(time())))
            with _unless_taken(after.name):
                await connection.execute(update(KEYS).where(KEYS.c.id == before.id).values(_values(after)))
            await write_in(connection, actor, "key.update", after.name, _shown(before), _shown(after))
            return after

    async def rotate(self, name: str, overlap: int = OVERLAP, *, actor: str) -> tuple[KeyRecord, Secret]:
        """Another key under the same id; the one before is good for `overlap` seconds more, one before that no longer.

        Raises `NotFound`, `BadRequest` where `overlap` is none, and `Conflict` where the key is revoked.
        """
        if not 0 <= overlap <= LONGEST_OVERLAP:
            raise BadRequest(f"The overlap is from 0 to {LONGEST_OVERLAP} seconds.", param="overlap")
        await self.prepare()
        async with self._changing() as connection:
            row = await _row(connection, name)
            before, now = _living(row), int(time())
            key = make_key(before.id)
            after = msgspec.structs.replace(before, former_until=now + overlap if overlap else None, updated=now)
            values = {
                **_values(after),
                "hash": self.digest(key.encode()),
                "former_hash": row["hash"] if overlap else None,
            }
            await connection.execute(update(KEYS).where(KEYS.c.id == before.id).values(values))
            await write_in(connection, actor, "key.rotate", before.name, _shown(before), _shown(after))
            return after, Secret(key)

    async def revoke(self, name: str, *, actor: str) -> KeyRecord:
        """For good, and what is left of it knows neither of its keys any more. Raises `NotFound`."""
        async with self._changing() as connection:
            before = _record(await _row(connection, name))
            if before.revoked is not None:
                return before
            now = int(time())
            after = msgspec.structs.replace(before, revoked=now, former_until=None, updated=now)
            values = {**_values(after), "hash": b"", "former_hash": None}
            await connection.execute(update(KEYS).where(KEYS.c.id == before.id).values(values))
            await write_in(connection, actor, "key.revoke", before.name, _shown(before), _shown(after))
            return after

    async def version(self) -> int:
        """Raises as `Database.transaction` does. It is asked for all the time: a file is not locked for it."""
        if not self._database.exists:
            return 0
        if self._database.file is not None:
            with suppress(sqlite3.Error):  # which the longer way tells properly
                return await asyncio.to_thread(_version_in, self._database.file)
        async with self._database.transaction() as connection:
            return await _version(connection)

    async def state(self, ids: Collection[str] = ()) -> KeyState:
        """What a server has to know, with the keys of `ids`; those that are not there are left out.

        Raises as `Database.transaction` and `prepare` do.
        """
        if not self._database.exists:
            return KeyState(version=0, made=False, usable=False, held={})
        await self.prepare()
        async with self._database.transaction(reading=True) as connection:
            counted = (await connection.execute(_counted(int(time())))).one()
            held = await connection.execute(select(KEYS).where(KEYS.c.id.in_(tuple(ids)))) if ids else None
            return KeyState(
                version=await _version(connection),
                made=counted[0] > 0,
                usable=counted[1] > 0,
                held={} if held is None else _held([dict(row) for row in held.mappings()]),
            )

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        async with self._database.transaction() as connection:
            await connection.execute(NO_FACT, {"name": VERSION})
            await connection.execute(update(FACTS).where(FACTS.c.name == VERSION).values(number=FACTS.c.number + 1))
            yield connection

    async def _added(self, connection: AsyncConnection, new: NewKey, actor: str) -> tuple[KeyRecord, Secret]:
        now = int(time())
        record = checked(KeyRecord(id=make_id(), created=now, updated=now, **msgspec.structs.asdict(new)))
        if record.expires is not None and record.expires <= now:
            raise BadRequest("`expires` is in the past.", param="expires")
        await _free(connection, record.name)
        key = make_key(record.id)
        with _unless_taken(record.name):
            await connection.execute(insert(KEYS).values({**_values(record), "hash": self.digest(key.encode())}))
        await write_in(connection, actor, "key.create", record.name, None, _shown(record))
        return record, Secret(key)


@contextmanager
def _unless_taken(name: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise Conflict(f"There is a key {name!r} already.", param="name") from None


async def _version(connection: AsyncConnection) -> int:
    found = await connection.execute(select(FACTS.c.number).where(FACTS.c.name == VERSION))
    return int(found.scalar_one_or_none() or 0)


def _version_in(file: Path) -> int:
    """Raises `sqlite3.Error`."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT number FROM facts WHERE name = ?", (VERSION,)).fetchone()
    return 0 if row is None else int(row[0])


async def _free(connection: AsyncConnection, name: str) -> None:
    """A revoked key goes on under its name and its id, so that its name can be another's."""
    revoked = and_(KEYS.c.name == name, KEYS.c.revoked.is_not(None))
    await connection.execute(update(KEYS).where(revoked).values(name=KEYS.c.name + " (" + KEYS.c.id + ")"))


async def _row(connection: AsyncConnection, name: str) -> Mapping[str, Any]:
    for column in (KEYS.c.id, KEYS.c.name):
        row = (await connection.execute(select(KEYS).where(column == name))).mappings().one_or_none()
        if row is not None:
            return dict(row)
    raise _unknown(name)


def _counted(now: int) -> Select[int, int]:
    """How many keys that rank there are and ever were, and how many of them can be used."""
    expired = and_(KEYS.c.expires.is_not(None), KEYS.c.expires <= now)
    usable = func.count().filter(KEYS.c.enabled, KEYS.c.revoked.is_(None), not_(expired))
    return select(func.count(), usable).select_from(KEYS).where(KEYS.c.scope == "rank")


def _living(row: Mapping[str, Any]) -> KeyRecord:
    record = _record(row)
    if record.revoked is not None:
        raise Conflict(f"The key {record.name!r} is revoked for good; make another.")
    return record


def _record(row: Mapping[str, Any]) -> KeyRecord:
    columns = {name: row[name] for name in KeyRecord.__struct_fields__ if name in row}
    try:
        return msgspec.convert({**row["fields"], **columns}, KeyRecord)
    except (TypeError, msgspec.ValidationError):
        raise BadSettings(f"The key {row['name']!r} in the database cannot be read.") from None


def _held(rows: Sequence[Mapping[str, Any]]) -> dict[str, HeldKey]:
    """But those that cannot be read: they are no reason to refuse others."""
    found = {}
    for row in rows:
        try:
            held = HeldKey(record=_record(row), digest=row["hash"], former=row["former_hash"])
        except BadSettings as error:
            log.error(error.message)
        else:
            found[held.record.id] = held
    return found


def _values(record: KeyRecord) -> dict[str, Any]:
    """The columns, but those of hashes."""
    given = msgspec.to_builtins(record)
    fields = {name: given.pop(name) for name in FIELDS}
    return {**given, "fields": fields}


def _shown(record: KeyRecord) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(record)
    return shown


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no key {name[:200]!r}.")


def _lost(what: str) -> str:
    return (
        f"{what}, but there are keys in the database that were made with a pepper: without it none can be checked. Put the "
        "file back, or set RERANKD_PEPPER to what it held; where it is lost, revoke all keys (`rerankd keys list`, "
        "`rerankd keys revoke NAME`) and make others."
    )
