"""The server as it is in earnest, on a port of its own: in a thread, so that a test can look into it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from rerankd.app import Application
from rerankd.server.http import create_app, front
from rerankd.server.serving import bind, serve


@contextmanager
def serving_on_a_port(application: Application) -> Iterator[int]:
    """Serves in a thread of its own until the block is left; gives the port."""
    servers: list[uvicorn.Server] = []
    started = threading.Event()
    startup = uvicorn.Server.startup

    async def seen(server: uvicorn.Server, sockets: Any = None) -> None:
        servers.append(server)
        await startup(server, sockets=sockets)

    listening = bind(application.settings.server)
    arguments = (front(create_app(application)), listening, application.settings.server, started.set)
    thread = threading.Thread(target=serve, args=arguments, name="server")
    with pytest.MonkeyPatch.context() as patch, listening:
        patch.setattr(uvicorn.Server, "startup", seen)
        thread.start()
        assert started.wait(10), "the server did not start"
        try:
            yield int(listening.getsockname()[1])
        finally:
            servers[0].should_exit = True
            thread.join(15)
            assert not thread.is_alive(), "the server did not end"
