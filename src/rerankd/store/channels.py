"""Channels in the database: what may be shown as it is, what may not be sealed for the channel and its host.

Each change stands in the log of changes too, written in the transaction that makes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from time import time
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.errors import BadSettings, Conflict, NotFound
from rerankd.store.audit import write_in
from rerankd.store.database import Database, blocking
from rerankd.store.records import StoredChannel
from rerankd.store.sealing import Sealer
from rerankd.store.tables import CHANNELS


class ChannelStore:
    def __init__(self, database: Database | str, secret_key: str | None) -> None:
        """Or the database's URL. Without a `secret_key`, channels with secrets are refused. Nothing is opened yet."""
        self._database = Database(database) if isinstance(database, str) else database
        self._sealer = Sealer(secret_key)

    def read(self, *, ignored: Collection[str] = ()) -> tuple[list[StoredChannel], list[str]]:
        """All channels that are kept, but those whose names are `ignored`, and which of these there are.

        It blocks, and is for the start. Raises `BadSettings`, naming a channel whose secrets do not open, and
        `StoreUnavailable` where the database is away.
        """
        if not self._database.exists:
            return [], []
        rows = blocking(self._rows)
        return (
            [self._opened(row) for row in rows if row["name"] not in ignored],
            [row["name"] for row in rows if row["name"] in ignored],
        )

    async def revisions(self) -> Mapping[str, str]:
        """Of all channels, by name: where they are the same, so is everything. Raises `StoreUnavailable`."""
        if not self._database.exists:
            return {}
        async with self._database.transaction(reading=True) as connection:
            found = await connection.execute(select(CHANNELS.c.name, CHANNELS.c.revision))
            return {row.name: row.revision for row in found}

    async def add(self, channel: StoredChannel, actor: str = "") -> None:
        """`actor` is who is to stand in the log of changes.

        Raises `Conflict` where there is one of the name, and `Forbidden` where its secrets cannot be sealed."""
        now = int(time())
        values = {**self._sealed(channel), "created": now, "updated": now}
        try:
            async with self._database.transaction() as connection:
                await connection.execute(insert(CHANNELS).values(values))
                await write_in(connection, actor, "channel.create", channel.name, None, _shown(values))
        except IntegrityError:
            raise Conflict(f"There is a channel {channel.name!r} in the database already.", param="name") from None

    async def replace(self, channel: StoredChannel, actor: str = "") -> None:
        """Raises `NotFound` where there is none of the name, and `Forbidden` as `add` does."""
        values = {**self._sealed(channel), "updated": int(time())}
        async with self._database.transaction() as connection:
            before = await _before(connection, channel.name)
            await connection.execute(update(CHANNELS).where(CHANNELS.c.name == channel.name).values(values))
            await write_in(connection, actor, "channel.replace", channel.name, before, _shown(values))

    async def remove(self, name: str, actor: str = "") -> None:
        """Raises `NotFound`."""
        async with self._database.transaction() as connection:
            before = await _before(connection, name)
            await connection.execute(delete(CHANNELS).where(CHANNELS.c.name == name))
            await write_in(connection, actor, "channel.remove", name, before, None)

    async def _rows(self) -> Sequence[Mapping[str, Any]]:
        async with self._database.transaction(reading=True) as connection:
            found = await connection.execute(select(CHANNELS).order_by(CHANNELS.c.created, CHANNELS.c.name))
            try:
                return [dict(row) for row in found.mappings()]
            except ValueError:
                raise BadSettings("The channels in the database cannot be read: what it holds is no JSON.") from None

    def _sealed(self, channel: StoredChannel) -> dict[str, Any]:
        sealed = None
        if channel.secrets is not None:
            sealed = self._sealer.seal(channel.secrets, channel=channel.name, host=channel.host)
        return {
            "name": channel.name,
            "fields": dict(channel.fields),
            "host": channel.host,
            "sealed": sealed,
            "revision": channel.revision,
        }

    def _opened(self, row: Mapping[str, Any]) -> StoredChannel:
        name, host, sealed = row["name"], row["host"], row["sealed"]
        if not isinstance(row["fields"], dict):
            raise BadSettings(f"channels.{name}: what the database holds of it cannot be read.")
        secrets = None if sealed is None else self._sealer.open(sealed, channel=name, host=host)
        return StoredChannel(name=name, fields=row["fields"], host=host, secrets=secrets, revision=row["revision"])


async def _before(connection: AsyncConnection, name: str) -> dict[str, Any]:
    """What may be shown of the channel as it is. Raises `NotFound`."""
    found = (
        (await connection.execute(select(CHANNELS).where(CHANNELS.c.name == name).with_for_update())).mappings().first()
    )
    if found is None:
        raise NotFound(f"There is no channel {name!r} in the database.")
    return _shown(dict(found))


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """For the log of changes: of what is sealed, whether there is anything; the revision tells that it was changed."""
    return {"fields": row["fields"], "secrets": row["sealed"] is not None, "revision": row["revision"]}
