"""What `serve` keeps: the database that the settings name, and everything that is written down in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar

from rerankd.books import Books
from rerankd.errors import BadSettings, EngineError, StoreUnavailable
from rerankd.secret import Secret
from rerankd.settings import Settings
from rerankd.store.audit import AuditLog
from rerankd.store.channels import ChannelStore
from rerankd.store.database import Database, blocking
from rerankd.store.idempotency import InDatabase, StoredClaims
from rerankd.store.key_records import KeyState
from rerankd.store.keys import KeyStore
from rerankd.store.ledger import StoredLedger
from rerankd.store.usage import UsageBook

log = logging.getLogger("rerankd.store")

Done = TypeVar("Done")

PATIENCE = 30.0
"""Seconds for which a start waits for a SQLite file that somebody else holds, such as a server that is about to end."""


class Shelf:
    """The database of the settings, from a look at its keys to the books over it. Raises `BadSettings`, as its methods do,
    where the database cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        pepper = None if settings.pepper is None else settings.pepper.get_secret_value()
        self._database = Database(settings.server.database.get_secret_value())
        self._keys = KeyStore(self._database, pepper)

    def key_state(self) -> KeyState | None:
        """What is known of the keys, where there is a database already; None while PostgreSQL is away: then the server
        starts all the same, and answers 503 to keys that it does not know.
        """
        return self._unless_away(self._keys.state)

    def admin_key(self) -> Secret | None:
        """The admin's key, where there was none and this call has made it."""
        return None if self._settings.admin_key is not None else self._unless_away(self._keys.ensure_admin)

    def books(self) -> Books:
        """Over a database that is up to date, unless it is away."""
        self._unless_away(self._database.upgrade)
        return _books(self._settings, self._database, self._keys)

    def _unless_away(self, work: Callable[[], Coroutine[Any, Any, Done]]) -> Done | None:
        shown = self._database.shown
        try:
            return blocking(work) if self._database.is_postgres else self._unless_held(work)
        except StoreUnavailable:
            log.warning("%s is away: %s", shown, self._database.trouble)
            return None
        except EngineError:
            raise BadSettings(
                f"The database {shown} (server.database) cannot be used; the line above says why."
            ) from None

    def _unless_held(self, work: Callable[[], Coroutine[Any, Any, Done]]) -> Done:
        until, shown = monotonic() + PATIENCE, self._database.shown
        while True:
            try:
                return blocking(work)
            except StoreUnavailable:
                if monotonic() >= until:
                    raise BadSettings(
                        f"The database {shown} (server.database) is held by another process for {PATIENCE:g} s and more; "
                        "end that one, or name another file."
                    ) from None
                log.warning("%s is held by another process; waiting for it", shown)


def _books(settings: Settings, database: Database, keys: KeyStore) -> Books:
    secret_key = None if settings.secret_key is None else settings.secret_key.get_secret_value()
    ledger = StoredLedger(database, settings.server.spool_folder) if settings.ledger.enabled else None
    return Books(
        channels=ChannelStore(database, secret_key),
        keys=keys,
        usage=UsageBook(database, ledger),
        ledger=ledger,
        claims=None if ledger is None else StoredClaims(InDatabase(database), ledger=ledger),
        audit=AuditLog(database),
    )
