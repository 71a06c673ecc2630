"""/admin/api/keys: who may ask, for what, and how much; made, changed, rotated and revoked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from rerankd.app import Application
from rerankd.books import KeyBook
from rerankd.secret import Secret
from rerankd.server.admin_reading import actor_of, answered, kept, part_of_path, read
from rerankd.server.admin_route import AdminRoute
from rerankd.server.key_bodies import EXPECTED, KeyChangeBody, KeyList, MadeKey, NewKeyBody, RotateBody
from rerankd.server.keys import KeyCheck
from rerankd.store.key_records import KeyRecord


class KeyRoutes:
    def __init__(self, application: Application, check: KeyCheck) -> None:
        """`check` is this server's own, in which a change is in force before it is answered."""
        self._application = application
        self._check = check

    def routes(self) -> Sequence[AdminRoute]:
        one = "/keys/{id}"
        return (
            AdminRoute(
                method="GET", path="/keys", answer=self.all, summary="The keys, the oldest first", gives=KeyList
            ),
            AdminRoute(
                method="POST",
                path="/keys",
                answer=self.create,
                summary="Make a key, which is shown this once",
                takes=NewKeyBody,
                gives=MadeKey,
                status=201,
            ),
            AdminRoute(method="GET", path=one, answer=self.one, summary="One key", gives=KeyRecord),
            AdminRoute(
                method="PATCH",
                path=one,
                answer=self.change,
                summary="Change what a key may",
                takes=KeyChangeBody,
                gives=KeyRecord,
            ),
            AdminRoute(
                method="POST",
                path=f"{one}/rotate",
                answer=self.rotate,
                summary="Make another key under the same id, which is shown this once",
                takes=RotateBody,
                gives=MadeKey,
                status=201,
            ),
            AdminRoute(method="DELETE", path=one, answer=self.revoke, summary="Revoke a key for good", gives=KeyRecord),
        )

    async def all(self) -> Response:
        """Revoked ones among them: the ledger speaks of them still."""
        return answered(KeyList(list(await self._keys.list())))

    async def create(self, request: Request) -> Response:
        """The key is in this answer and nowhere else: what is kept is an HMAC of it."""
        body = await read(request, NewKeyBody, EXPECTED)
        made = await self._keys.create(body.new_key(), actor=actor_of(request))
        await self._check.refresh()
        return _made(made)

    async def one(self, request: Request) -> Response:
        """By its id, or by its name."""
        return answered(await self._keys.get(part_of_path(request, "id")))

    async def change(self, request: Request) -> Response:
        """What is not given stays, each limit and each quota for itself; null takes one away."""
        name = part_of_path(request, "id")
        body = await read(request, KeyChangeBody, EXPECTED)
        changed = await self._keys.update(name, body.change_of, actor=actor_of(request))
        await self._check.refresh()
        return answered(changed)

    async def rotate(self, request: Request) -> Response:
        """The key from before is good for `overlap_seconds` more; one from before that no longer."""
        name = part_of_path(request, "id")
        body = await read(request, RotateBody, EXPECTED)
        made = await self._keys.rotate(name, body.overlap_seconds, actor=actor_of(request))
        await self._check.refresh()
        return _made(made)

    async def revoke(self, request: Request) -> Response:
        """It is good nowhere any more: here at once, elsewhere within a second on SQLite and within five on PostgreSQL."""
        revoked = await self._keys.revoke(part_of_path(request, "id"), actor=actor_of(request))
        await self._check.refresh()
        return answered(revoked)

    @property
    def _keys(self) -> KeyBook:
        return kept(self._application.books.keys, "keys")


def _made(made: tuple[KeyRecord, Secret]) -> Response:
    record, key = made
    response = answered(MadeKey(**msgspec.structs.asdict(record), key=key.reveal()), 201)
    response.headers["cache-control"] = "no-store"
    return response
