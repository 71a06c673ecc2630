"""Channels in the database: what may be shown as it is, what may not be sealed for the channel and its host."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from time import time
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from rerankd.errors import BadSettings, Conflict, NotFound
from rerankd.store.database import Database, blocking
from rerankd.store.records import StoredChannel
from rerankd.store.sealing import Sealer
from rerankd.store.tables import CHANNELS


class ChannelStore:
    def __init__(self, url: str, secret_key: str | None) -> None:
        """`url` is SQLite's; without a `secret_key`, channels with secrets are refused. Nothing is opened yet."""
        self._database = Database(url)
        self._sealer = Sealer(secret_key)

    def read(self, *, ignored: Collection[str] = ()) -> tuple[list[StoredChannel], list[str]]:
        """All channels that are kept, but those whose names are `ignored`, and which of these there are.

        It blocks, and is for the start. Raises `BadSettings`, naming a channel whose secrets do not open.
        """
        if not self._database.exists:
            return [], []
        rows = blocking(self._rows)
        return (
            [self._opened(row) for row in rows if row["name"] not in ignored],
            [row["name"] for row in rows if row["name"] in ignored],
        )

    async def add(self, channel: StoredChannel) -> None:
        """Raises `Conflict` where there is one of the name, and `Forbidden` where its secrets cannot be sealed."""
        now = int(time())
        values = {**self._sealed(channel), "created": now, "updated": now}
        try:
            async with self._database.transaction() as connection:
                await connection.execute(insert(CHANNELS).values(values))
        except IntegrityError:
            raise Conflict(f"There is a channel {channel.name!r} in the database already.", param="name") from None

    async def replace(self, channel: StoredChannel) -> None:
        """Raises `NotFound` where there is none of the name, and `Forbidden` as `add` does."""
        values = {**self._sealed(channel), "updated": int(time())}
        async with self._database.transaction() as connection:
            done = await connection.execute(update(CHANNELS).where(CHANNELS.c.name == channel.name).values(values))
            _one(done.rowcount, channel.name)

    async def remove(self, name: str) -> None:
        """Raises `NotFound`."""
        async with self._database.transaction() as connection:
            done = await connection.execute(delete(CHANNELS).where(CHANNELS.c.name == name))
            _one(done.rowcount, name)

    async def _rows(self) -> Sequence[Mapping[str, Any]]:
        async with self._database.transaction() as connection:
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


def _one(count: int, name: str) -> None:
    if count != 1:
        raise NotFound(f"There is no channel {name!r} in the database.")
