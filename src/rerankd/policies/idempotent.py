"""A reranker that works once for a request that comes again under the same Idempotency-Key, and gives it the same answer.

A key belongs to its caller; an answer is kept with the row of the ledger that charges for it, in one transaction, so that
there is never the one without the other. What fails is not kept: the next try is worked on.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine
from hashlib import sha256
from secrets import token_hex
from typing import Any, Protocol, TypeVar

import msgspec

from rerankd.accounts import Completion
from rerankd.errors import BadRequest, RerankError
from rerankd.policies.kept_answers import recalled, written
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse

log = logging.getLogger("rerankd.policies")

Outcome = TypeVar("Outcome")

HEADER = "idempotency-key"
REPLAYED = "idempotent-replayed"
"""The header of an answer that was given before: `true`."""
LONGEST = 255
DECENT = re.compile(rf"[!-~]{{1,{LONGEST}}}")
WITHOUT_DEADLINE = 3600.0
"""Seconds that work may take for which nobody set a time."""

_encoder = msgspec.json.Encoder(order="deterministic")
_ABSENT = RerankRequest(query="", documents=())


class Claims(Protocol):
    """Who works for which key, and what came of it. `holder` is another one for each claim."""

    async def claim(self, key_id: str, idempotency_key: str, asked: bytes, holder: str, seconds: float) -> bytes | None:
        """The response that is kept, or None: then the work is the holder's, for `seconds` and a while.

        Raises `Conflict` with `retry_after` while it is another's, `IdempotencyMismatch` where something else was asked for
        under the key, and `StoreUnavailable`.
        """
        ...

    async def release(self, key_id: str, idempotency_key: str, holder: str) -> None:
        """The work has failed: the key is free again, unless it was not the holder's or an answer is kept."""
        ...


class Idempotent:
    """It stands outside of whatever counts and charges: an answer that is given again costs nothing."""

    def __init__(self, inner: Reranker, claims: Claims) -> None:
        self._inner = inner
        self._claims = claims

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises what `Claims.claim` raises. Without a key, or in open mode, it only hands on."""
        key, caller = call.idempotency_key, call.caller
        if key is None or caller is None:
            return await self._inner.rerank(request, call)
        mine = msgspec.structs.replace(call, holder=token_hex(16))
        kept = await self._claimed(request, mine, caller.id, key)
        if kept is not None:
            return recalled(kept, request, call.notes)
        try:
            return await self._inner.rerank(request, mine)
        except (Exception, asyncio.CancelledError):
            if call.notes.sequence is None:  # else the ledger has the answer, and brings it to the claim
                await self._released(mine, caller.id, key)
            raise

    async def _claimed(self, request: RerankRequest, mine: Call, key_id: str, key: str) -> bytes | None:
        left = mine.remaining()
        seconds = WITHOUT_DEADLINE if left is None else max(0.0, left)
        try:
            return await _to_its_end(
                self._claims.claim(key_id, key, digest_of(request), mine.holder or "", seconds),
            )
        except asyncio.CancelledError:
            await self._released(mine, key_id, key)  # it may have been ours by then
            raise

    async def _released(self, mine: Call, key_id: str, key: str) -> None:
        try:
            await _to_its_end(self._claims.release(key_id, key, mine.holder or ""))
        except RerankError as error:
            log.warning("request %s: its idempotency key stays taken for a while: %s", mine.request_id, error.code)


def idempotency_key_of(value: str | None) -> str | None:
    """What the header says. Raises `BadRequest` where it is empty, too long, or holds other than visible ASCII."""
    if value is not None and not DECENT.fullmatch(value):
        raise BadRequest(
            f"Idempotency-Key takes 1 to {LONGEST} visible ASCII characters, such as a UUID; this one has "
            f"{len(value)} characters"
            + ("." if len(value) > LONGEST or not value else ", not all of them visible ASCII."),
            param=HEADER,
        )
    return value


def completion_of(request: RerankRequest, response: RerankResponse, call: Call) -> Completion | None:
    """What the ledger is to keep with the row of this answer; None where it was not asked for under a key.

    It is kept where the claim is still the holder's. Who makes the row sets `call.notes.sequence` as soon as the row is
    sure to be written, also where the caller is cancelled meanwhile: without it the claim is given up.
    """
    if call.caller is None or call.idempotency_key is None or call.holder is None:
        return None
    return Completion(
        key_id=call.caller.id,
        idempotency_key=call.idempotency_key,
        holder=call.holder,
        response=written(request, response, call),
    )


def as_first_given(call: Call) -> Call:
    """The call to render an answer for: one that was given before has the id and the time in it that it had then."""
    if call.notes.first_given is None:
        return call
    request_id, created = call.notes.first_given
    return msgspec.structs.replace(call, request_id=request_id, created=created)


def digest_of(request: RerankRequest) -> bytes:
    """SHA-256 of all that the caller asked for. What is absent is left out, so that a field which comes later changes none.

    Raises `BadRequest` where a text has no bytes, such as half a character.
    """
    asked = {
        name: value for name in request.__struct_fields__ if (value := getattr(request, name)) != getattr(_ABSENT, name)
    }
    try:
        return sha256(_encoder.encode(asked)).digest()
    except UnicodeEncodeError:
        raise BadRequest("A text of the request is not valid Unicode, which an Idempotency-Key needs.") from None


async def _to_its_end(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """What `work` returns. It is never left half done: who is cancelled meanwhile hears of it when it has ended."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains
        raise cancelled
    return task.result()
