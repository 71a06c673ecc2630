"""Counters in this process: exact for whoever asks it alone, with nothing to wait for but a quota's first reading.

Limits slide by a clock that only goes forward. Quotas begin with the ledger's sums, which are read again every 5 s while the
key is in use; while they cannot be read, what is known goes on to be counted. A key that has nothing under way and nothing
in its windows is forgotten when there are many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, time

from rerankd.accounts import NO_QUOTAS, Allowance, Caller
from rerankd.errors import RerankError, StoreUnavailable
from rerankd.policies.spending import Spending
from rerankd.policies.window import Window
from rerankd.reservations import SOON, SPAN, Refusal, Reservation, SpentSource, asked_of, refusal

SEED_EVERY = 5.0
"""Seconds between two readings of a key's sums, where it is in use."""
SEED_AGAIN = 1.0
"""Seconds without a further try after one has failed that somebody waited for."""
STALE = 60.0
"""Seconds after which sums that should have been read again are too old to go by, where there are newer ones."""
MANY = 10_000
"""Keys, from which on idle ones are looked for."""


class Account:
    """One key's windows, its requests under way, and what it has spent, where it has quotas."""

    __slots__ = ("due", "running", "second", "seeding", "spending", "windows")

    def __init__(self) -> None:
        self.windows: dict[str, Window] = {}
        self.running = 0
        self.second = 0
        self.spending: Spending | None = None
        self.seeding: asyncio.Task[None] | None = None
        self.due = 0.0

    def idle(self, second: int, *, kept: bool) -> bool:
        """`kept` says that the ledger has what was spent."""
        spent = self.spending is None or (kept and self.spending.idle)
        return not self.running and self.seeding is None and spent and self.second <= second - SPAN

    def window(self, name: str) -> Window:
        window = self.windows.get(name)
        if window is None:
            window = self.windows[name] = Window()
        return window


class MemoryCounters:
    """Without `spent` quotas count what was used since the start. `ledger_visible` is the number up to which every row that
    was settled here is in the sums. To be used in one event loop, and closed there.
    """

    def __init__(
        self,
        spent: SpentSource | None,
        ledger_visible: Callable[[], int],
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
    ) -> None:
        self._spent = spent
        self._visible = ledger_visible
        self._clock = clock
        self._wall = wall
        self._accounts: dict[str, Account] = {}
        self._many = MANY

    @property
    def count(self) -> int:
        """Keys that are remembered."""
        return len(self._accounts)

    def spending(self, key_id: str) -> Spending | None:
        account = self._accounts.get(key_id)
        return None if account is None else account.spending

    async def reserve(self, caller: Caller, *, documents: int, tokens: int, seconds: float) -> Reservation | Refusal:
        account = self._accounts.get(caller.id) or self._opened(caller.id)
        if caller.quotas != NO_QUOTAS:
            await self._known(caller.id, account)
        return self._decided(account, caller, documents, tokens, seconds)

    def settle(self, reservation: Reservation, tokens: int, sequence: int | None) -> None:
        account = self._ended(reservation, tokens)
        if account.spending is not None and reservation.quotas:
            account.spending.settle(tokens, sequence if self._spent is not None else None)

    def release(self, reservation: Reservation) -> None:
        self._ended(reservation, 0)

    async def seed(self, key_id: str) -> None:
        """Reads the sums of a key now. Raises `StoreUnavailable`; what is known stays then."""
        account = self._accounts.get(key_id) or self._opened(key_id)
        spending = account.spending = account.spending or Spending(self._wall)
        if self._spent is None:
            return
        upto, day = self._visible(), spending.today()  # before the sums are read: what comes meanwhile is not dropped
        try:
            spent = await self._spent.spent(key_id)
        except StoreUnavailable:
            raise
        except RerankError as error:
            raise StoreUnavailable(_unknown(), retry_after=SOON) from error
        spending.seed(spent, upto, day)

    def close(self) -> None:
        for account in self._accounts.values():
            if account.seeding is not None:
                account.seeding.cancel()

    def _decided(
        self, account: Account, caller: Caller, documents: int, tokens: int, seconds: float
    ) -> Reservation | Refusal:
        now = self._clock()
        second = account.second = int(now)
        asked = asked_of(caller, documents, tokens)
        blocked: dict[str, float] = {}
        taken: list[tuple[Window, int]] = []
        allowances: dict[str, Allowance] = {}
        reset = second + SPAN - now
        for name, limit, amount in asked:
            window = account.window(name)
            left = limit - window.used(second) - amount
            if left < 0:
                blocked[name] = window.wait(now, limit - amount)
            taken.append((window, amount))
            allowances[name] = Allowance(limit, left, reset)
        most = caller.limits.concurrency
        if most is not None and account.running >= most:
            blocked["concurrency"] = SOON
        spending = account.spending if caller.quotas != NO_QUOTAS else None
        if spending is not None:
            blocked |= spending.blocked(caller.quotas, tokens)
        if blocked:
            return refusal(caller, blocked, _untouched(account, asked, now))
        for window, amount in taken:
            window.add(second, amount)
        account.running += 1
        if spending is not None:
            spending.reserved += tokens
        return Reservation("", caller.id, second, tokens, documents, seconds, allowances, spending is not None)

    def _ended(self, reservation: Reservation, tokens: int) -> Account:
        account = self._accounts[reservation.key_id]  # it is not forgotten while something is under way
        account.running -= 1
        window = account.windows.get("tokens")
        if window is not None:
            window.replace(reservation.second, reservation.tokens, tokens)
        if reservation.quotas and account.spending is not None:
            account.spending.reserved -= reservation.tokens
        return account

    async def _known(self, key_id: str, account: Account) -> None:
        """When it returns, something is known of what the key has spent; it is waited for the first time, and
        after a while without use.
        """
        spending = account.spending = account.spending or Spending(self._wall)
        now = self._clock()
        if self._spent is None:
            return
        fresh = spending.known and now < account.due + STALE
        if account.seeding is None and now >= account.due:
            account.due = now + (SEED_EVERY if spending.known else SEED_AGAIN)
            account.seeding = asyncio.create_task(self._seed(key_id, account))
        if not fresh and account.seeding is not None:
            await asyncio.wait({account.seeding})  # who goes away leaves it to the others
        if not spending.known:
            raise StoreUnavailable(_unknown(), retry_after=SOON)

    async def _seed(self, key_id: str, account: Account) -> None:
        try:
            await self.seed(key_id)
            account.due = self._clock() + SEED_EVERY
        except StoreUnavailable:
            pass  # what is known goes on; who knows nothing says so
        finally:
            account.seeding = None

    def _opened(self, key_id: str) -> Account:
        if len(self._accounts) >= self._many:
            second, kept = int(self._clock()), self._spent is not None
            self._accounts = {
                name: account for name, account in self._accounts.items() if not account.idle(second, kept=kept)
            }
            self._many = max(MANY, 2 * len(self._accounts))  # so that looking costs little for each
        account = self._accounts[key_id] = Account()
        account.second = int(self._clock())
        return account


def _untouched(account: Account, asked: list[tuple[str, int, int]], now: float) -> dict[str, Allowance]:
    """What is left where nothing was taken."""
    allowances = {}
    for name, limit, _ in asked:
        window = account.windows[name]
        allowances[name] = Allowance(limit, max(0, limit - window.used(int(now))), window.reset(now))
    return allowances


def _unknown() -> str:
    return "What is left of this key's quota cannot be found out while the database is away: try again soon."
