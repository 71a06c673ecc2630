"""A server with everything that it keeps, in a database of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from rerankd.accounts import Entry
from rerankd.app import Application
from rerankd.books import Books
from rerankd.server.http import create_app
from rerankd.store.audit import AuditLog
from rerankd.store.channels import ChannelStore
from rerankd.store.database import Database, blocking
from rerankd.store.keys import KeyStore
from rerankd.store.ledger import StoredLedger
from rerankd.store.usage import UsageBook
from tests.server.conftest import settings

SECRET = "a random text, or so it is hoped: 0123456789"
ADMIN = {"authorization": "Bearer the-admins-key"}
ACTOR = "RERANKD_ADMIN_KEY (static-admin)"
API = "/admin/api"
SOON = 20.0


class Keeping:
    """`client` brings the admin's key."""

    def __init__(self, folder: Path, **table: Any) -> None:
        url = f"sqlite:///{folder / 'rerankd.db'}"
        self.database = Database(url)
        blocking(self.database.upgrade)
        self.ledger = StoredLedger(self.database, folder / "spool")
        self.keys = KeyStore(self.database, SECRET)
        books = Books(
            channels=ChannelStore(self.database, SECRET),
            keys=self.keys,
            usage=UsageBook(self.database, self.ledger),
            ledger=self.ledger,
            audit=AuditLog(self.database),
        )
        self.application = Application(
            settings(**{"admin_key": "the-admins-key", "ledger": {"currency": "EUR"}, **table}), books=books
        )
        self.client = TestClient(create_app(self.application), raise_server_exceptions=False, headers=ADMIN)

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.client.get(API + path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def call(self, work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        """In the server's event loop."""
        assert self.client.portal is not None
        return self.client.portal.call(work, *arguments)

    def record(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.call(self.ledger.record, entry)
        assert self.call(self.ledger.settled, SOON)


@contextmanager
def keeping(folder: Path, **table: Any) -> Iterator[Keeping]:
    here = Keeping(folder, **table)
    with here.application, here.client:
        yield here
        here.call(here.application.client.close)
