"""Asks with one client's library and prints what it saw as one JSON object: `python -m tests.contract.asking cohere`.

It is run by the Python of the client's own environment, in a process of its own, and lets it reach nothing but this machine.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any

from tests.contract.cases import KEY_VARIABLE, URL_VARIABLE, Answer, Ask, asks

LOOPBACK_NAMES = {"localhost", "", None}
strangers: list[str] = []
"""Hosts that the library tried to reach beside the server."""


def stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: no name is looked up and no address connected to that is not of this machine."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if not is_here(host):
        strangers.append(host)
        raise ConnectionRefusedError(f"{host} is not to be reached from a test.")


def is_here(host: str | None) -> bool:
    try:
        return host in LOOPBACK_NAMES or ip_address(str(host)).is_loopback
    except ValueError:
        return False


def seen(client: Callable[[Ask], Answer], ask: Ask) -> Mapping[str, Any]:
    """The answer, or the exception as the user of the library gets it."""
    try:
        return asdict(client(ask))
    except Exception as error:
        return {"raised": f"{type(error).__module__}.{type(error).__qualname__}", "message": str(error)}


def main(module: str) -> None:
    sys.addaudithook(stay_here)
    clients: Mapping[str, Callable[[Ask], Answer]] = importlib.import_module(f"tests.contract.clients.{module}").CLIENTS
    every = asks(os.environ[URL_VARIABLE], os.environ[KEY_VARIABLE])
    answers = {name: {case: seen(client, ask) for case, ask in every.items()} for name, client in clients.items()}
    print(json.dumps({"answers": answers, "strangers": strangers}))  # noqa: T201  (this is how it reports)


if __name__ == "__main__":
    main(sys.argv[1])
