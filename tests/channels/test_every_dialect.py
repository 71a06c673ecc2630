"""Our own channel pointed at a server that speaks by our own codec, in each wire format."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from rerankd.channels.client import Client
from rerankd.channels.keys import Secret
from rerankd.dialects.directory import CALLED, DIALECTS
from rerankd.errors import UpstreamRefused
from rerankd.estimate import estimated_request
from rerankd.policies.validated import Validated
from rerankd.types import Call, Document, RerankRequest
from tests.channels.upstream import KEY, TOKENS, Heard, channel_to, ranked, speaking, upstream

TEXTS = ("a bad one", "a good one", "好 good ☃", "nothing \u0000 of use", "x" * 5000)
ASKED = RerankRequest(
    query="Which is good?", documents=tuple(map(Document, TEXTS)), model="public", top_n=2, return_documents=True
)
EXPECTED = [(1, TEXTS[1]), (2, TEXTS[2])]


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_channel_and_a_server_understand_each_other(name: str, client: Client, call: Call) -> None:
    dialect = DIALECTS[name]
    seen: list[RerankRequest] = []
    async with upstream(speaking(dialect, seen, key=KEY)) as there:
        answer = await Validated(channel_to(there.url, client, name)).rerank(ASKED, call)
    assert [(one.index, one.document and one.document.text) for one in answer.results] == EXPECTED
    assert [document.text for document in seen[0].documents] == list(TEXTS)
    assert seen[0].query == ASKED.query
    assert answer.model == "public"
    if "model" not in dialect.request_losses:
        assert seen[0].model == "their/own"
    if "usage.prompt_tokens" in dialect.response_losses:
        assert answer.usage.estimated
        assert answer.usage.prompt_tokens == estimated_request(ASKED)
    else:
        assert (answer.usage.prompt_tokens, answer.usage.estimated) == (TOKENS * len(TEXTS), False)
    assert answer.warnings == ()


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_wrong_key_is_understood(name: str, client: Client, call: Call) -> None:
    async with upstream(speaking(DIALECTS[name], key=Secret("another-key"))) as there:
        with pytest.raises(UpstreamRefused):
            await channel_to(there.url, client, name).rerank(ASKED, call)


@pytest.mark.parametrize("name", sorted(set(CALLED) - set(DIALECTS)))
async def test_those_that_are_only_called_are_called_as_their_servers_want_it(
    name: str, client: Client, call: Call
) -> None:
    def answer(fields: dict[str, object], paths: str) -> object:
        scores = [result.relevance_score for result in sorted(ranked(_all()).results, key=lambda one: one.index)]
        if name == "deepinfra":
            assert fields == {"queries": [ASKED.query] * len(TEXTS), "documents": list(TEXTS)}
            assert paths == "/v1/inference/their/own"
            return {"scores": scores, "input_tokens": 77}
        if name == "volcengine":
            pairs = [{"query": ASKED.query, "content": text} for text in TEXTS]
            assert fields == {"rerank_model": "their/own", "datas": pairs}
            return {"code": 0, "data": {"scores": scores, "token_usage": 77}}
        assert name == "openrouter", "a new format, for which this test has no server yet"
        assert fields == {"model": "their/own", "query": ASKED.query, "documents": list(TEXTS), "top_n": 2}
        results = [{"index": index, "relevance_score": scores[index], "document": {"text": "?"}} for index in (2, 1)]
        return {"results": results, "usage": {"total_tokens": 77}}

    async def reply(heard: Heard) -> web.Response:
        assert heard.headers["authorization"] == f"Bearer {KEY.reveal()}"
        return web.json_response(answer(json.loads(heard.body), heard.path))

    async with upstream(reply) as there:
        found = await Validated(channel_to(there.url, client, name)).rerank(ASKED, call)
    assert [(one.index, one.document and one.document.text) for one in found.results] == EXPECTED
    assert (found.usage.prompt_tokens, found.usage.estimated) == (77, False)


def _all() -> RerankRequest:
    return RerankRequest(query=ASKED.query, documents=ASKED.documents)
