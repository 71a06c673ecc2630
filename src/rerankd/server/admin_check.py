"""Who may use /admin: whoever brings a key of the admin's; while no key is needed for anything, this machine alone.

Then only requests that name this machine as their host are taken, which those of a strange site's page do not.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from rerankd.errors import Forbidden
from rerankd.server.keys import KeyCheck, is_loopback, keys_of

NOT_OF_A_HOST = frozenset("/?#@\\")


class AdminCheck:
    """A dependency of every route of /admin: it puts the `caller` into the request's state, None where no key was needed.

    Raises as `KeyCheck`; a key that only ranks is `Forbidden`.
    """

    def __init__(self, keys: KeyCheck) -> None:
        self._keys = keys

    async def __call__(self, request: Request) -> None:
        await self._keys.look()
        if self._keys.admin_open:
            if not _names_this_machine(request):
                raise Forbidden("Without an admin key, /admin is for localhost alone: set RERANKD_ADMIN_KEY.")
            request.state.caller = None
            return
        if keys_of(request) and not self._keys.any_admin:
            raise Forbidden("There is no admin key here: start the server with RERANKD_ADMIN_KEY.")
        request.state.caller = await self._keys.admin(request)


def _names_this_machine(request: Request) -> bool:
    """By the one Host header as it was sent: a URL that is made of it may have another host."""
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or NOT_OF_A_HOST & set(hosts[0]):
        return False
    try:
        return is_loopback(urlsplit(f"//{hosts[0]}").hostname or "")
    except ValueError:
        return False
