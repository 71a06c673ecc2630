"""A ledger for tests of what is counted: rows are visible when it says so, and it can be away."""

from __future__ import annotations

import asyncio

from rerankd.accounts import Spent
from rerankd.errors import StoreUnavailable


class FakeLedger:
    """Rows have their numbers from 1 on; `before` was spent by others."""

    def __init__(self, before: int = 0) -> None:
        self.before = before
        self.rows: list[tuple[str, int]] = []
        self.visible = 0
        self.away = False
        self.asked = 0
        self.seconds = 0.0

    def record(self, key_id: str, tokens: int, *, at_once: bool = True) -> int:
        self.rows.append((key_id, tokens))
        if at_once:
            self.visible = len(self.rows)
        return len(self.rows)

    async def spent(self, key_id: str) -> Spent:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if self.away:
            raise StoreUnavailable("The database is away.")
        total = self.before + sum(tokens for key, tokens in self.rows[: self.visible] if key == key_id)
        return Spent(total=total, month=total, day=total)
