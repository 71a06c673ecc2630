"""Who asks, and what that one may: the keys of a request, wherever its client puts them, against those that are good here.

Routes are closed unless they are declared open: the check, and the scope that it asks for, hang on the route itself, never
on a path. There is nobody called anonymous: a caller is whoever brought a good key, or, where none is asked for, None.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import Any

from starlette.requests import Request

from rerankd.accounts import Caller, Scope
from rerankd.api_keys import same
from rerankd.errors import BadSettings, Forbidden, StoreUnavailable, Unauthenticated
from rerankd.server.known_keys import UNKNOWN, KeySource, KnownKey, KnownKeys, Nothing
from rerankd.settings import Settings

Asked = Mapping[str, Any]
"""A request's scope, or the request, which is a mapping of that."""
HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
MOST_BROUGHT = 4
"""Keys of one request that are looked at."""
STATIC, STATIC_ADMIN = "static", "static-admin"
"""The ids of the keys of the settings; those of stored ones have another length."""
NONE_SENT = "No API key was sent; send it as `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`."
NOT_VALID = "The API key is not valid here."
WRONG_SCOPE = {"rank": "This key is for /admin; it does not rank.", "admin": "This key is not the admin's."}


class KeyCheck:
    """A dependency of every closed route: it puts the `caller` into the request's state.

    It raises `Unauthenticated`, and says nothing about how a key was wrong; `Forbidden` where a good key is for something
    else, or not for the address that it comes from; and `StoreUnavailable` where only a database that is away could tell.
    """

    def __init__(self, settings: Settings, stored: KeySource | None = None) -> None:
        """`stored` are the keys of the database; without them those of the settings are all."""
        self._stored = None if stored is None else KnownKeys(stored)
        self._statics: list[tuple[bytes, KnownKey]] = []
        if settings.api_key is not None:
            caller = Caller(id=STATIC, name="RERANKD_API_KEY")
            self._statics.append((settings.api_key.get_secret_value().encode(), KnownKey(caller, "rank")))
        if settings.admin_key is not None:
            caller = Caller(id=STATIC_ADMIN, name="RERANKD_ADMIN_KEY")
            self._statics.append((settings.admin_key.get_secret_value().encode(), KnownKey(caller, "admin")))
        self._mode = settings.auth.mode
        self._may_open = self._mode == "auto" and settings.api_key is None and is_loopback(settings.server.host)
        self._has_admin = settings.admin_key is not None
        self._admin_may_open = (
            self._mode != "required"
            and settings.api_key is None
            and settings.admin_key is None
            and is_loopback(settings.server.host)
        )

    @property
    def needed(self) -> bool:
        """Whether ranking needs a key now. One that is made while the server runs closes it for good."""
        return self._mode != "off" and not (self._may_open and not self._made)

    @property
    def away(self) -> bool:
        """Whether the database did not say lately which keys are good, so that those that are known go on."""
        return self._stored is not None and self._stored.away

    @property
    def admin_open(self) -> bool:
        """Whether /admin needs no key now: where no key is needed for anything, and only this machine can ask."""
        return self._admin_may_open and not self._made

    @property
    def any_admin(self) -> bool:
        """Whether there can be a key for /admin at all."""
        return self._has_admin or self._stored is not None

    async def __call__(self, request: Request) -> None:
        request.state.caller = await self.caller(request)

    def cached(self, request: Asked) -> Caller | Nothing | None:
        """As `caller`, without waiting for anything; `UNKNOWN` where it would have to. Raises as the class says."""
        if self._stored is not None and self._stored.due:
            return UNKNOWN
        return self._identified(request, "rank") if self.needed else None

    async def caller(self, request: Asked) -> Caller | None:
        """Who may rank: None where no key is asked for, and then whatever key is brought is passed over."""
        found = self.cached(request)
        if found is not UNKNOWN:
            return found
        await self.look()
        return await self._looked_up(request, "rank") if self.needed else None

    async def admin(self, request: Asked) -> Caller:
        """Who may use /admin, by its key."""
        await self.look()
        found = self._identified(request, "admin")
        return await self._looked_up(request, "admin") if found is UNKNOWN else found

    async def refresh(self) -> None:
        """Look at the stored keys now; what cannot be seen stays as it was known."""
        if self._stored is not None:
            with suppress(StoreUnavailable):
                await self._stored.refresh()

    async def look(self) -> None:
        """At the stored keys, where nobody has done so for too long; what it cannot see stays as it was known."""
        if self._stored is not None and self._stored.due:
            await self.refresh()

    async def start(self) -> None:
        """Looks at the stored keys from now on, in the running event loop, until `stop`."""
        if self._stored is not None:
            await self._stored.start()

    async def stop(self) -> None:
        if self._stored is not None:
            await self._stored.stop()

    @property
    def _made(self) -> bool:
        return self._stored is not None and self._stored.made

    def _identified(self, request: Asked, scope: Scope) -> Caller | Nothing:
        """By the first key that is known."""
        for key in _some(request):
            found = self._static(key)
            if found is None and self._stored is not None:
                known = self._stored.get(key)
                if known is UNKNOWN:
                    return UNKNOWN
                found = known
            if found is not None:
                return _allowed(found, request, scope)
        raise Unauthenticated(NOT_VALID)

    async def _looked_up(self, request: Asked, scope: Scope) -> Caller:
        for key in _some(request):
            found = self._static(key)
            if found is None and self._stored is not None:
                found = await self._stored.find(key)
            if found is not None:
                return _allowed(found, request, scope)
        raise Unauthenticated(NOT_VALID)

    def _static(self, key: bytes) -> KnownKey | None:
        for secret, known in self._statics:
            if same(key, secret):
                return known
        return None


def _allowed(known: KnownKey, request: Asked, scope: Scope) -> Caller:
    if known.scope != scope:
        raise Forbidden(WRONG_SCOPE[scope])
    if known.networks and not _within(known, request):
        raise Forbidden("This key may not be used from this address.")
    return known.caller


def _within(known: KnownKey, request: Asked) -> bool:
    client = request.get("client")
    try:
        address = ip_address(client[0] if client else "")
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in known.networks)


def _some(request: Asked) -> list[bytes]:
    keys = keys_of(request)
    if not keys:
        raise Unauthenticated(NONE_SENT)
    return keys


def keys_of(request: Asked) -> list[bytes]:
    """What a request brings as keys: `Authorization` with or without Bearer, or one of the others; empty is none."""
    keys = []
    for name, value in request["headers"]:
        if name in HEADERS:
            key = value.strip()
            if key[:6].lower() == b"bearer" and key[6:7] in (b" ", b""):
                key = key[6:].strip()
            if key:
                keys.append(key)
    return keys[:MOST_BROUGHT]


def check_exposure(settings: Settings, any_stored_key: bool = False) -> None:
    """Raises `BadSettings` where the server would be open to others, or could let nobody in.

    `any_stored_key` says whether the database has a key that ranks and can be used.
    """
    mode, has_key = settings.auth.mode, settings.api_key is not None or any_stored_key
    if mode == "required" and not has_key:
        raise BadSettings(
            "auth.mode is required, but there is no key: `rerankd keys create NAME`, or set RERANKD_API_KEY."
        )
    if mode == "auto" and not has_key and not is_loopback(settings.server.host):
        raise BadSettings(
            f"{settings.server.host} can be reached by others, and there is no key. Make one (`rerankd keys create NAME`) "
            'or set RERANKD_API_KEY; or, if anyone who reaches it may use it, set mode = "off" under [auth].'
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
