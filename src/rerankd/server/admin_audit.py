"""/admin/api/audit: who changed what, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from rerankd.app import Application
from rerankd.server.admin_reading import answered, kept, read_query
from rerankd.server.admin_route import AdminRoute
from rerankd.store.records import Change

EXPECTED = {
    "limit": "a whole number from 1 to 500",
    "before": "a whole number: the `next` of an earlier answer",
}


class AuditQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=500, description="The most rows of a page.")] = 50
    before: Annotated[int, Meta(ge=1, le=2**63 - 1, description="The `next` of an earlier answer.")] | None = None


class Changes(msgspec.Struct):
    """`next` is null where there is nothing older."""

    changes: list[Change]
    next: int | None


class AuditRoutes:
    def __init__(self, application: Application) -> None:
        self._application = application

    def routes(self) -> Sequence[AdminRoute]:
        return (
            AdminRoute(
                method="GET",
                path="/audit",
                answer=self.page,
                summary="The log of changes, newest first",
                asks=AuditQuery,
                gives=Changes,
            ),
        )

    async def page(self, request: Request) -> Response:
        """Changes of keys and channels, and corrections of the ledger, by this API and the command line; without secrets."""
        query = read_query(request, AuditQuery, EXPECTED)
        changes = await kept(self._application.books.audit, "log of changes").page(query.before, query.limit)
        further = changes[-1].number if len(changes) == query.limit else None
        return answered(Changes(list(changes), further))
