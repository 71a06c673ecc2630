"""A client's process cannot reach anything but this machine, and what it tried to reach is known."""

from __future__ import annotations

import pytest

from tests.contract import asking


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", None])
def test_this_machine_can_be_reached(host: str | None) -> None:
    asking.stay_here("socket.getaddrinfo", (host, 80))
    asking.stay_here("socket.connect", (object(), (host, 80)))


@pytest.mark.parametrize("host", ["api.cohere.com", b"api.jina.ai", "10.0.0.1", "::2", "127.0.0.1.example.org"])
def test_no_other_machine_can(host: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "strangers", [])
    with pytest.raises(ConnectionRefusedError):
        asking.stay_here("socket.getaddrinfo", (host, 443))
    with pytest.raises(ConnectionRefusedError):
        asking.stay_here("socket.connect", (object(), (host, 443)))
    assert len(asking.strangers) == 2
