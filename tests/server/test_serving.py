from __future__ import annotations

import socket
import threading
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from rerankd.app import Application
from rerankd.errors import BadSettings
from rerankd.server.serving import bind, serve, url
from rerankd.settings import ServerSettings
from tests.server.conftest import settings
from tests.server.live import serving_on_a_port


def needs_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


def test_a_port_of_zero_becomes_one_that_is_free() -> None:
    with bind(ServerSettings(port=0)) as one, bind(ServerSettings(port=0)) as other:
        assert one.getsockname()[1] != other.getsockname()[1] != 0


def test_a_port_is_taken_from_the_moment_it_is_bound() -> None:
    with bind(ServerSettings(port=0)) as listening, socket.create_connection(listening.getsockname(), timeout=5):
        pass


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    with bind(ServerSettings(port=0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(BadSettings, match=rf"127\.0\.0\.1:{port} is taken.*--port"):
            bind(ServerSettings(port=port))


@pytest.mark.parametrize("host", ["203.0.113.7"])
def test_an_address_that_is_not_ours_is_named_with_what_to_do(host: str) -> None:
    with pytest.raises(BadSettings, match=rf"^{host}:0 cannot be listened on \(.*--host"):
        bind(ServerSettings(host=host, port=0))


def test_the_url_has_the_port_that_was_bound() -> None:
    with bind(ServerSettings(port=0)) as listening:
        assert url(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_the_url_of_an_ipv6_address_stands_in_brackets() -> None:
    needs_ipv6()
    with bind(ServerSettings(host="::1", port=0)) as listening:
        assert url(listening) == f"http://[::1]:{listening.getsockname()[1]}"


def test_the_server_answers_over_ipv6() -> None:
    needs_ipv6()
    over_six = settings(server={"host": "::1", "port": 0})
    with Application(over_six) as application, serving_on_a_port(application) as port:
        assert httpx2.get(f"http://[::1]:{port}/health/ready").status_code == 200


def test_an_answer_does_not_say_which_server_software_gave_it() -> None:
    with Application(settings(server={"port": 0})) as application, serving_on_a_port(application) as port:
        assert "server" not in httpx2.get(f"http://127.0.0.1:{port}/health/live").headers


def test_an_idle_connection_is_closed_after_the_time_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rerankd.server.serving.KEEP_ALIVE", 1)
    with Application(settings(server={"port": 0})) as application, serving_on_a_port(application) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n")
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200")


async def _who_asks(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the address that it was told of."""
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    host = str((scope.get("client") or ("nobody", 0))[0]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(host))]})
    await send({"type": "http.response.body", "body": host})


def asked_as(trusted: tuple[str, ...], forwarded: list[str]) -> str:
    """Who asks, for an application behind `serve`, when somebody on this machine sends these headers."""
    servers: list[uvicorn.Server] = []
    startup, started = uvicorn.Server.startup, threading.Event()

    async def seen(server: uvicorn.Server, sockets: Any = None) -> None:
        servers.append(server)
        await startup(server, sockets=sockets)

    settings = ServerSettings(port=0, trusted_proxies=trusted)
    with pytest.MonkeyPatch.context() as patch, bind(settings) as listening:
        patch.setattr(uvicorn.Server, "startup", seen)
        thread = threading.Thread(target=serve, args=(_who_asks, listening, settings, started.set))
        thread.start()
        try:
            assert started.wait(10)
            with socket.create_connection(listening.getsockname(), timeout=5) as client:
                lines = "".join(f"X-Forwarded-For: {each}\r\n" for each in forwarded)
                client.sendall(f"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}\r\n".encode())
                answer = b""
                while piece := client.recv(65536):
                    answer += piece
        finally:
            servers[0].should_exit = True
            thread.join(15)
    return answer.partition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8", "203.0.113.7")], ids=["nobody", "others"])
@pytest.mark.parametrize("forwarded", [["198.51.100.1"], ["10.0.0.1"], ["127.0.0.1, 198.51.100.1"], ["*"]])
def test_nobody_can_say_that_it_is_somebody_else(
    trusted: tuple[str, ...], forwarded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own setting is none of ours
    assert asked_as(trusted, forwarded) == "127.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "who"),
    [
        (["198.51.100.1"], "198.51.100.1"),
        (["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        (["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        (["6.6.6.6, 198.51.100.1, 10.1.2.3"], "198.51.100.1"),
        (["6.6.6.6, 198.51.100.1, 10.1.2.3, 127.0.0.1"], "198.51.100.1"),
        (["2001:db8::1"], "2001:db8::1"),
        ([], "127.0.0.1"),
    ],
)
def test_of_a_proxy_that_is_trusted_the_last_address_counts_that_is_no_proxy_s(forwarded: list[str], who: str) -> None:
    assert asked_as(("127.0.0.0/8", "10.0.0.0/8"), forwarded) == who
