"""Whatever is done to keys, over /admin/api and on the command line, by whomever, and whatever the clock does meanwhile:
a key opens what it is for while it is good, and nothing else, ever.

    STEPS=50000 pytest tests/server/test_keys_stateful.py     # instead of a few hundred
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient, Response
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from typer.testing import CliRunner

from rerankd.app import Application
from rerankd.books import Books
from rerankd.cli.keys import app as command_line
from rerankd.errors import Conflict
from rerankd.server import known_keys
from rerankd.server.http import create_app
from rerankd.store import keys as stored_keys
from rerankd.store.audit import AuditLog
from rerankd.store.database import Database, blocking
from rerankd.store.keys import KeyStore
from tests.server.conftest import settings

STEPS = int(os.environ.get("STEPS", "300"))
OF_ONE = 50
ROOT = "the-admins-key"
KEYS, BODY = "/admin/api/keys", {"query": "q", "documents": ["a"]}
MOST = 8
"""Keys of one run."""
names = st.sampled_from(["admin", "one", "other", "third", "fourth"])
scopes = st.sampled_from(["rank", "admin"])
which = st.integers(0, MOST - 1)


@dataclass
class Held:
    """A key as it ought to be. `former` is the text from before, and until when that is good."""

    id: str
    scope: str
    text: str
    former: tuple[str, float] | None = None
    expires: float | None = None
    enabled: bool = True
    revoked: bool = False
    gone: list[str] = field(default_factory=list)

    def good(self, now: float) -> bool:
        return self.enabled and not self.revoked and (self.expires is None or self.expires > now)

    def texts(self, now: float) -> dict[str, bool]:
        """All that it ever had, and whether each is good."""
        former = {} if self.former is None else {self.former[0]: self.good(now) and self.former[1] > now}
        return {**dict.fromkeys(self.gone, False), **former, self.text: self.good(now)}


class KeysOfAServer(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.wall, self.steady = 2_000_000_000, 1000.0
        self.held: list[Held] = []
        self.outside = ExitStack()
        folder = Path(self.outside.enter_context(tempfile.TemporaryDirectory()))
        patch = self.outside.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(known_keys, "time", lambda: self.wall)
        patch.setattr(stored_keys, "time", lambda: self.wall)
        patch.setattr(known_keys, "monotonic", lambda: self.steady)
        patch.setattr(known_keys, "PATIENCE", 60.0)  # a busy machine is no reason to refuse
        url = f"sqlite:///{folder / 'keys.db'}"
        patch.setenv("RERANKD_SERVER_DATABASE", url)
        database = Database(url)
        self.store = KeyStore(database)
        blocking(self.store.prepare)
        table = settings(auth={"mode": "required"}, admin_key=ROOT)
        books = Books(keys=self.store, audit=AuditLog(database))
        application = self.outside.enter_context(Application(table, books=books))
        self.runner = self.outside.enter_context(asyncio.Runner())
        transport = ASGITransport(create_app(application), raise_app_exceptions=False)
        self.client = AsyncClient(transport=transport, base_url="http://localhost")

    def teardown(self) -> None:
        if hasattr(self, "outside"):
            self.every_key_opens_what_it_is_for_and_nothing_else()
            self.runner.run(self.client.aclose())
            self.outside.close()

    def asked(self, key: str, method: str, path: str, body: dict[str, Any] | None = None) -> Response:
        return self.runner.run(self.client.request(method, path, json=body, headers={"x-api-key": key}))

    def administered(self, method: str, path: str, body: dict[str, Any] | None = None, by: str = ROOT) -> Response:
        answer = self.asked(by, method, path, body)
        assert answer.status_code in (200, 201, 400, 403, 409, 422), answer.text
        self.steady += 0.5  # when it is in force, as is promised
        return answer

    def commanded(self, *arguments: str) -> str | None:
        """What was printed, where it was done."""
        done = CliRunner().invoke(command_line, arguments)
        self.steady += 0.5
        return done.stdout.strip() if done.exit_code == 0 else None

    def of(self, number: int) -> Held:
        return self.held[number % len(self.held)]

    def any_held(self) -> bool:
        return bool(self.held)

    @precondition(lambda self: len(self.held) < MOST)
    @rule(name=names, scope=scopes, lasts=st.one_of(st.none(), st.integers(1, 100)), typed=st.booleans())
    def create(self, name: str, scope: str, lasts: int | None, typed: bool) -> None:
        expires = None if lasts is None or typed else self.wall + lasts
        if typed:
            text = self.commanded("create", name, "--scope", scope)
            if text is not None:
                self.held.append(Held(text[6:14], scope, text))
            return
        answer = self.administered("POST", KEYS, {"name": name, "scope": scope, "expires": expires})
        if answer.status_code == 201:
            self.held.append(Held(answer.json()["id"], scope, answer.json()["key"], expires=expires))

    @precondition(any_held)
    @rule(number=which, ends=st.one_of(st.none(), st.integers(-50, 100)))
    def expire(self, number: int, ends: int | None) -> None:
        held, expires = self.of(number), None if ends is None else self.wall + ends
        if self.administered("PATCH", f"{KEYS}/{held.id}", {"expires": expires}).status_code == 200:
            held.expires = expires

    @precondition(any_held)
    @rule(number=which, enabled=st.booleans(), typed=st.booleans())
    def enable(self, number: int, enabled: bool, typed: bool) -> None:
        held = self.of(number)
        if typed:
            done = self.commanded("update", held.id, "--enable" if enabled else "--disable") is not None
        else:
            done = self.administered("PATCH", f"{KEYS}/{held.id}", {"enabled": enabled}).status_code == 200
        assert done is not held.revoked
        if done:
            held.enabled = enabled

    @precondition(any_held)
    @rule(number=which, name=names)
    def rename(self, number: int, name: str) -> None:
        self.administered("PATCH", f"{KEYS}/{self.of(number).id}", {"name": name})

    @precondition(any_held)
    @rule(number=which, overlap=st.sampled_from([0, 10, 1000]), typed=st.booleans())
    def rotate(self, number: int, overlap: int, typed: bool) -> None:
        held = self.of(number)
        if typed:
            text = self.commanded("rotate", held.id, "--overlap", f"{overlap}s")
        else:
            answer = self.administered("POST", f"{KEYS}/{held.id}/rotate", {"overlap_seconds": overlap})
            text = answer.json()["key"] if answer.status_code == 201 else None
        assert (text is None) is held.revoked
        if text is not None:
            held.gone += [] if held.former is None else [held.former[0]]
            held.gone += [] if overlap else [held.text]
            held.former = (held.text, self.wall + overlap) if overlap else None
            held.text = text

    @precondition(any_held)
    @rule(number=which, typed=st.booleans())
    def revoke(self, number: int, typed: bool) -> None:
        held = self.of(number)
        if typed:
            assert self.commanded("revoke", held.id) is not None
        else:
            assert self.administered("DELETE", f"{KEYS}/{held.id}").status_code == 200
        held.revoked = True

    @precondition(lambda self: len(self.held) < MOST)
    @rule()
    def restart(self) -> None:
        """A start makes an admin's key where there is none."""
        try:
            made = blocking(self.store.ensure_admin)
        except Conflict:
            return
        self.steady += 0.5
        if made is not None:
            self.held.append(Held(made.reveal()[6:14], "admin", made.reveal()))

    @precondition(any_held)
    @rule(number=which, another=which, name=names)
    def rise(self, number: int, another: int, name: str) -> None:
        """A key for ranking, good or not, tries all that there is."""
        held, other = self.of(number), self.of(another)
        if held.scope == "admin":
            return
        for method, path, body in (
            ("POST", KEYS, {"name": name, "scope": "admin"}),
            ("PATCH", f"{KEYS}/{held.id}", {"scope": "admin"}),
            ("PATCH", f"{KEYS}/{other.id}", {"enabled": True, "expires": None}),
            ("POST", f"{KEYS}/{other.id}/rotate", {}),
            ("DELETE", f"{KEYS}/{other.id}", None),
        ):
            assert self.asked(held.text, method, path, body).status_code in (401, 403)
        assert self.administered("PATCH", f"{KEYS}/{held.id}", {"scope": "admin"}).status_code == 422

    @rule(seconds=st.integers(1, 200))
    def wait(self, seconds: int) -> None:
        self.wall += seconds
        self.steady += seconds

    @rule(seconds=st.sampled_from([-3600, -60, 60, 3600]))
    def set_the_clock(self, seconds: int) -> None:
        """What was refused is looked up again after 5 s; what was let in is judged by the clock at each request."""
        self.wall += seconds
        self.steady += known_keys.REFUSED_FOR + 1

    @invariant()
    def every_key_is_as_good_as_it_ought_to_be(self) -> None:
        for held in self.held:
            path = ("POST", "/rerank", BODY) if held.scope == "rank" else ("GET", f"{KEYS}/{held.id}", None)
            assert self.asked(held.text, *path).status_code == (200 if held.good(self.wall) else 401), held

    @rule()
    def every_key_opens_what_it_is_for_and_nothing_else(self) -> None:
        """With all that they ever had."""
        for held in self.held:
            for text, good in held.texts(self.wall).items():
                ranks = self.asked(text, "POST", "/rerank", BODY).status_code
                administers = self.asked(text, "GET", f"{KEYS}/{held.id}").status_code
                mine, others = (ranks, administers) if held.scope == "rank" else (administers, ranks)
                assert (mine, others) == ((200, 403) if good else (401, 401)), held


TestKeys = KeysOfAServer.TestCase
TestKeys.settings = hypothesis_settings(
    max_examples=max(1, STEPS // OF_ONE), stateful_step_count=OF_ONE, deadline=None, database=None
)
