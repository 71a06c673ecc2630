"""Facts of a request as the endpoint leaves them behind."""

from __future__ import annotations

from typing import Any

import msgspec

from rerankd.accounts import Caller
from rerankd.server.facts import Facts
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Usage

AT = 1_763_748_000.25
"""2025-11-21T18:00:00.250Z"""


def facts(**others: Any) -> Facts:
    """Of a request for two documents that the channel `far` has ranked in 12 ms; `others` take the place of what is said."""
    call = Call("the-request", caller=Caller(id="AbCd1234", name="somebody"), idempotency_key="canary")
    call.notes.took("parse", 1.0)
    call.notes.took("upstream", 10.0)
    call.notes.channel, call.notes.attempts = "far", 3
    told = Facts("the-request", "POST", "/v1/rerank", AT, 100.0, 200, 0.012, "/v1/rerank", "superset", call=call)
    told.asked(RerankRequest(query="canary", documents=(Document("canary"), Document("canary")), model="good"))
    told.answered(
        RerankResponse(
            model="good",
            results=(),
            usage=Usage(prompt_tokens=40, cached_tokens=10, estimated=True),
            warnings=("canary",),
        )
    )
    return msgspec.structs.replace(told, **others)
