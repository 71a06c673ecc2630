from __future__ import annotations

import pytest
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from rerankd.server.direct import Direct
from rerankd.server.request_ids import RequestIds
from rerankd.server.routes import rerank_routes
from tests.server.conftest import MakeApp

HEADERS = {"x-request-id": "the-request"}
BODY = {"query": "q", "documents": ["a"], "model": "lexical"}


async def beside(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(b"beside")(scope, receive, send)


@pytest.mark.parametrize(
    ("method", "path", "by"),
    [
        ("POST", "/rerank", "direct"),
        ("GET", "/rerank", "beside"),
        ("POST", "/rerank/", "beside"),
        ("POST", "//rerank", "beside"),
        ("POST", "/Rerank", "beside"),
        ("POST", "/rerank?x=/other", "direct"),
    ],
)
def test_only_a_post_to_the_very_path_is_answered_directly(method: str, path: str, by: str) -> None:
    direct = Direct({"/rerank": Response(b"direct")}, beside)
    assert TestClient(direct).request(method, "http://testserver" + path).text == by


@pytest.mark.parametrize("path", sorted({route.path for route in rerank_routes() if "{" not in route.path}))
def test_the_router_would_answer_alike(make_app: MakeApp, path: str) -> None:
    """Whoever goes round the table, as a path with parameters does, meets the same endpoint and the same check of keys."""
    app = make_app(api_key="a-key-of-ours")
    router = RequestIds(app.build_middleware_stack())
    answers = [TestClient(stack).post(path, json=BODY, headers=HEADERS) for stack in (app, router)]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content
