"""A listening socket and the server behind it, from a bound port to the last answer of a graceful end."""

from __future__ import annotations

import errno
import functools
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from rerankd.errors import BadSettings
from rerankd.server.connection import BoundedHttpProtocol
from rerankd.settings import ServerSettings

KEEP_ALIVE = 30
DRAIN = 30
BACKLOG = 1024


def bind(settings: ServerSettings) -> socket.socket:
    """The port, taken before models are loaded. Raises `BadSettings` where it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as cause:
        reason = "is taken" if cause.errno == errno.EADDRINUSE else f"cannot be listened on ({cause.strerror or cause})"
        raise BadSettings(f"{settings.host}:{settings.port} {reason}; choose another with --port or --host.") from None


def url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: ASGIApp, listening: socket.socket, settings: ServerSettings, started: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; running requests have 30 s to end. Calls `started` once requests are taken.

    Who asks is who connects; where that is one of the `trusted_proxies`, it is the last in X-Forwarded-For
    who is none of them.
    """
    config = uvicorn.Config(
        app,
        http=functools.partial(BoundedHttpProtocol, receive_timeout=settings.receive_timeout),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=DRAIN,
        # By default uvicorn believes whoever comes from this machine.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
    )
    with _end_quietly():
        _Announcing(config, started).run(sockets=[listening])


@contextmanager
def _end_quietly() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more when it has ended; here that was all that was asked for."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Announcing(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._announce()
