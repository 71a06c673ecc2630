"""Who may ask: the key of a request, wherever its client puts it, against the key that is required.

Routes are closed unless they are declared open: the check hangs on the router, never on a path.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from starlette.requests import Request

from rerankd.errors import BadSettings, Unauthenticated
from rerankd.settings import Settings

HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


class KeyCheck:
    """A dependency of every closed route. It raises `Unauthenticated`, and says nothing about how a key was wrong."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.api_key
        self._required = None if secret is None or settings.auth.mode == "off" else secret.get_secret_value().encode()

    @property
    def needed(self) -> bool:
        return self._required is not None

    async def __call__(self, request: Request) -> None:
        self.check(request)

    def check(self, request: Request) -> None:
        if self._required is None:
            return
        brought = keys_of(request)
        if not brought:
            raise Unauthenticated(
                "No API key was sent; send it as `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`."
            )
        if not any(hmac.compare_digest(key.encode("latin-1"), self._required) for key in brought):
            raise Unauthenticated("The API key is not valid here.")


def keys_of(request: Request) -> list[str]:
    """What a request brings as keys: `Authorization` with or without Bearer, or one of the others; empty is none."""
    keys = []
    for header in HEADERS:
        value = request.headers.get(header, "").strip()
        scheme, _, rest = value.partition(" ")
        if scheme.lower() == "bearer":
            value = rest.strip()
        if value:
            keys.append(value)
    return keys


def check_exposure(settings: Settings) -> None:
    """Raises `BadSettings` where the server would be open to others, or could let nobody in."""
    mode, has_key = settings.auth.mode, settings.api_key is not None
    if mode == "required" and not has_key:
        raise BadSettings("auth.mode is required, but there is no key: set RERANKD_API_KEY.")
    if mode == "auto" and not has_key and not is_loopback(settings.server.host):
        raise BadSettings(
            f"{settings.server.host} can be reached by others, and there is no key. Set RERANKD_API_KEY; or, if anyone who "
            'reaches it may use it, set mode = "off" under [auth].'
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
