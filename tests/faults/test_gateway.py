"""The whole way, from a caller of each wire format over HTTP to two upstreams of which one lies, and back.

The server is built from a configuration as `rerankd serve` builds it; nothing is wired by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from httpx2 import ASGITransport, AsyncClient, Response

from rerankd.app import Application
from rerankd.dialects.base import Dialect
from rerankd.dialects.directory import CALLED, DIALECTS
from rerankd.server.http import create_app
from rerankd.server.routes import rerank_routes
from rerankd.settings import Settings
from rerankd.types import Document, RerankRequest
from tests.faults.hostile import Upstream, texts_for, true_score
from tests.faults.lies import CANARY, LIES, Lie

SCORES = (0.125, 0.875, 0.5, 0.25)
TEXTS = texts_for(*SCORES)
TOLD = [lie for lie in LIES.values() if lie.key and not lie.slow and lie.applies(CALLED["jina"])]
PATHS = {route.dialect.name: route.path.replace("{model:path}", "good") for route in reversed(rerank_routes())}

every_dialect = pytest.mark.parametrize("caller", DIALECTS.values(), ids=lambda dialect: dialect.name)


def settings(*upstreams: Upstream) -> Settings:
    """Those that are first are asked first; nothing is kept, so that each request goes out."""
    channels = [
        {
            "name": f"channel-{place}",
            "dialect": upstream.dialect.name,
            "base_url": upstream.url,
            "models": {"good": "theirs"},
            "priority": -place,
            "timeout": 2.0,
            "allow_private": True,
        }
        for place, upstream in enumerate(upstreams)
    ]
    return Settings.parse({"channels": channels, "cache": {"max_bytes": 0}, "server": {"deadline": 10.0}})


def asked() -> RerankRequest:
    return RerankRequest(query="which one?", documents=tuple(map(Document, TEXTS)), model="good", return_documents=True)


async def answers(application: Application, caller: Dialect, count: int = 1) -> list[Response]:
    transport = ASGITransport(create_app(application))
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        return [await client.post(PATHS[caller.name], content=caller.render_request(asked())) for _ in range(count)]


def check_right(caller: Dialect, answer: Response) -> None:
    assert answer.status_code == 200, answer.text
    assert CANARY not in answer.text
    results = caller.parse_response(answer.content, dict(answer.headers), asked()).results
    found = {result.index: result.relevance_score for result in results}
    assert found == {place: true_score(text) for place, text in enumerate(TEXTS)}
    assert all(result.document is None or result.document.text == TEXTS[result.index] for result in results)


@every_dialect
async def test_callers_of_every_format_get_the_right_answer_of_the_channel_that_works(caller: Dialect) -> None:
    async with (
        Upstream(CALLED["jina"], LIES["an index past the end"].tell) as broken,
        Upstream(CALLED["cohere_v2"], LIES["half of the JSON"].tell) as breaking,
        Upstream(CALLED["voyage"], LIES["foreign texts"].tell) as strange,
    ):
        with Application(settings(broken, breaking, strange)) as application:
            (answer,) = await answers(application, caller)
            await application.client.close()
    check_right(caller, answer)
    assert answer.headers["x-rerankd-channel"] == "channel-2"


@pytest.mark.parametrize("lie", TOLD, ids=lambda lie: lie.name)
async def test_no_lie_becomes_a_500_or_a_wrong_answer_for_any_caller(lie: Lie) -> None:
    """Alone, a liar is a clean error in the caller's own format, or a right answer in spite of it."""
    async with Upstream(CALLED["jina"], lie.tell, listens=lie.listens, scheme=lie.scheme) as liar:
        with Application(settings(liar)) as application:
            for caller in few(DIALECTS.values()):
                (answer,) = await answers(application, caller)
                if answer.status_code == 200:
                    check_right(caller, answer)
                    continue
                error = caller.parse_error(answer.status_code, dict(answer.headers), answer.content)
                assert answer.status_code in CLEAN, (lie, caller.name, answer.status_code, answer.text)
                assert error.message
                assert CANARY not in answer.text
            await application.client.close()


CLEAN = {400, 413, 422, 424, 429, 502, 503, 504}
"""TEI has 424 for a failure behind it, and 429 for too much."""


def few(dialects: Iterable[Dialect]) -> list[Dialect]:
    return [dialect for dialect in dialects if dialect.name in ("superset", "cohere_v2", "tei", "dashscope")]


async def test_a_dead_channel_is_left_alone_and_the_list_says_why() -> None:
    async with Upstream(CALLED["jina"], listens=False) as dead, Upstream(CALLED["jina"]) as sound:
        with Application(settings(dead, sound)) as application:
            found = await answers(application, DIALECTS["superset"], count=8)
            state = application.breakers["channel-0", "good"].state
            await application.client.close()
    assert {answer.headers["x-rerankd-channel"] for answer in found} == {"channel-1"}
    assert (state.status, state.last_error) == ("open", "The upstream could not be reached.")
    assert len(sound.asked) == 8


DESTINATIONS = (
    "api_base", "api_base_url", "apiBase", "base_url", "baseUrl", "base-url", "endpoint", "endpoint_url", "url", "uri",
    "host", "hostname", "upstream", "upstream_url", "target", "target_url", "server", "proxy", "http_proxy", "https_proxy",
    "callback", "callback_url", "webhook", "webhook_url", "redirect", "redirect_uri", "custom_host", "customHost",
    "provider", "channel", "user_config", "litellm_params", "model_list", "config", "options", "extra_body", "extra_headers",
    "metadata", "mcp_url", "organization_url",
)  # fmt: skip
"""Names under which other gateways let a caller say where to go, or were made to."""


@every_dialect
async def test_a_caller_cannot_choose_where_we_connect(caller: Dialect) -> None:
    async with Upstream(CALLED["jina"]) as canary, Upstream(CALLED["jina"]) as sound:
        said = dict.fromkeys(DESTINATIONS, canary.url)
        nested = {name: {"model_list": [said], "params": said, **said} for name in DESTINATIONS}
        headers = {f"x-{name}".replace("_", "-"): canary.url for name in DESTINATIONS} | {
            "x-portkey-custom-host": canary.url,
            "x-forwarded-host": canary.url.removeprefix("http://"),
            "forwarded": f"host={canary.url.removeprefix('http://')}",
        }
        with Application(settings(sound)) as application:
            transport = ASGITransport(create_app(application))
            async with AsyncClient(transport=transport, base_url="http://test") as client:
                for extra in (said, nested):
                    body = {**extra, **json.loads(caller.render_request(asked()))}
                    answer = await client.post(PATHS[caller.name], json=body, headers=headers, params=said)
                    check_right(caller, answer)
            await application.client.close()
        assert (len(canary.asked), len(sound.asked)) == (0, 2)
