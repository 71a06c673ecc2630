"""An application with the lexical model, a client for it, and the same on a real port with small bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from rerankd.app import Application
from rerankd.reranker import Reranker
from rerankd.server.http import create_app
from rerankd.settings import Settings
from tests.server.live import serving_on_a_port

MODELS = [{"name": "lexical", "aliases": ["jina-reranker-v3"]}]

MakeApp = Callable[..., FastAPI]
MakeClient = Callable[..., TestClient]


def settings(**table: Any) -> Settings:
    return Settings.parse({"models": MODELS, **table})


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Builds an app of settings given by section; `reranker` takes the place of the models."""
    applications: list[Application] = []

    def make(*, reranker: Reranker | None = None, **table: Any) -> FastAPI:
        application = Application(settings(**table))
        applications.append(application)
        if reranker is not None:
            application.reranker = application.bare = reranker
        return create_app(application)

    yield make
    for application in applications:
        application.close()


@pytest.fixture
def make_client(make_app: MakeApp) -> MakeClient:
    def make(**what: Any) -> TestClient:
        return TestClient(make_app(**what), raise_server_exceptions=False)

    return make


@pytest.fixture(scope="session")
def shared_client() -> Iterator[TestClient]:
    """For tests that leave nothing behind."""
    with Application(settings()) as application:
        yield TestClient(create_app(application))


@pytest.fixture(scope="session")
def bounded_port() -> Iterator[int]:
    """A real server that waits one second for a request and takes bodies of at most 256 KiB."""
    bounds = {"port": 0, "receive_timeout": 1.0, "max_body": "256KiB"}
    with Application(settings(server=bounds)) as application, serving_on_a_port(application) as port:
        yield port
