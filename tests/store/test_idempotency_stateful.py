"""Claims of two processes against a second telling of their rules: one of them at most ever works for a key."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from rerankd.errors import Conflict, IdempotencyMismatch
from rerankd.store.database import Database
from rerankd.store.idempotency import KEPT, LONGER, InDatabase, StoredClaims
from tests.policies.upstream import Clock
from tests.store.test_idempotency import complete

Outcome = TypeVar("Outcome")

WHICH = st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from(["x", "y"]))
SECONDS = 10


class Row(NamedTuple):
    asked: bytes
    holder: str
    response: bytes | None
    expires: float


class ClaimRules(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name) / 'rerankd.db'}"
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.database = Database(url)
        self.processes = [StoredClaims(InDatabase(one), self.clock) for one in (self.database, Database(url))]
        self.rows: dict[tuple[str, str], Row] = {}
        self.holders: list[tuple[tuple[str, str], str]] = []

    def teardown(self) -> None:
        self.loop.close()
        self.folder.cleanup()

    def _do(self, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        return self.loop.run_until_complete(work)

    @rule(which=WHICH, process=st.integers(0, 1), asked=st.sampled_from([b"a", b"b"]))
    def claim(self, which: tuple[str, str], process: int, asked: bytes) -> None:
        holder, row = f"holder-{len(self.holders)}", self.rows.get(which)
        try:
            found = self._do(self.processes[process].claim(*which, asked, holder, SECONDS))
        except IdempotencyMismatch:
            assert row is not None
            assert row.expires > self.clock.now
            assert row.asked != asked
        except Conflict:
            assert row is not None
            assert row.expires > self.clock.now
            assert (row.asked, row.response) == (asked, None)
        else:
            if row is not None and row.expires > self.clock.now:
                assert found is not None
                assert (row.asked, row.response) == (asked, found)
            else:
                assert found is None
                self.rows[which] = Row(asked, holder, None, self.clock.now + SECONDS + LONGER)
                self.holders.append((which, holder))

    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """By whoever once had a claim, also where it was taken over."""
        if not self.holders:
            return
        which, holder = data.draw(st.sampled_from(self.holders))
        self._do(complete(self.database, *which, holder, holder.encode(), self.clock.now))
        row = self.rows.get(which)
        if row is not None and row.holder == holder and row.response is None:
            self.rows[which] = row._replace(response=holder.encode(), expires=self.clock.now + KEPT)

    @rule(data=st.data(), process=st.integers(0, 1))
    def release(self, data: st.DataObject, process: int) -> None:
        if not self.holders:
            return
        which, holder = data.draw(st.sampled_from(self.holders))
        self._do(self.processes[process].release(*which, holder))
        row = self.rows.get(which)
        if row is not None and row.holder == holder and row.response is None:
            del self.rows[which]

    @rule(seconds=st.sampled_from([1, SECONDS + LONGER - 1, SECONDS + LONGER, KEPT]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(process=st.integers(0, 1))
    def prune(self, process: int) -> None:
        expired = [which for which, row in self.rows.items() if row.expires <= self.clock.now]
        assert self._do(self.processes[process].prune()) == len(expired)
        for which in expired:
            del self.rows[which]


TestClaimRules = ClaimRules.TestCase
TestClaimRules.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
