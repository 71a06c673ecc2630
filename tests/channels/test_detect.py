from __future__ import annotations

import socket

import msgspec
import pytest
from aiohttp import web

from rerankd.channels.client import Client
from rerankd.channels.detect import Finding, detect
from rerankd.dialects.directory import CALLED, DIALECTS
from rerankd.errors import BadSettings
from tests.channels.upstream import KEY, Heard, Reply, Upstream, always, speaking, upstream

ITSELF = {
    "cohere_v2",
    "dashscope",
    "dashscope_compatible",
    "jina",
    "mixedbread",
    "nvidia",
    "pinecone",
    "tei",
    "vllm_score",
    "voyage",
}
"""Formats that no other's request and answer can be mistaken for; the rest are told from their kin by no small question."""


async def found(client: Client, reply: Reply, path: str = "") -> tuple[list[Finding], Upstream]:
    async with upstream(reply) as there:
        return await detect(there.url + path, KEY, client, True, "the-model"), there


@pytest.mark.parametrize("name", DIALECTS)
async def test_an_upstream_is_asked_until_a_format_is_found_that_it_speaks(name: str, client: Client) -> None:
    findings, there = await found(client, speaking(DIALECTS[name], key=KEY))
    speaks = findings[-1]
    assert speaks.speaks, [(one.dialect, one.evidence) for one in findings]
    assert speaks.status == 200
    assert len(there.heard) == len(findings) <= len(CALLED)
    if name in ITSELF:
        assert speaks.dialect == name
        assert speaks.verdict.usage_given == ("usage.prompt_tokens" not in DIALECTS[name].response_losses)


@pytest.mark.parametrize("name", ["jina", "cohere_v2", "tei", "voyage", "siliconflow"])
async def test_what_is_met_most_is_found_with_few_calls(name: str, client: Client) -> None:
    _, there = await found(client, speaking(DIALECTS[name], key=KEY))
    assert len(there.heard) <= 4


async def test_the_format_that_reads_the_tokens_too_is_preferred(client: Client) -> None:
    findings, there = await found(client, speaking(DIALECTS["siliconflow"], key=KEY))
    assert [(one.dialect, one.speaks, one.verdict.usage_given) for one in findings] == [
        ("cohere_v2", False, False),
        ("jina", True, False),
        ("siliconflow", True, True),
    ]
    assert len(there.heard) == 3


@pytest.mark.parametrize("name", ["mixedbread", "nvidia", "dashscope", "pinecone"])
async def test_a_base_url_that_ends_in_a_formats_path_is_tried_so_first(name: str, client: Client) -> None:
    dialect = DIALECTS[name]
    findings, there = await found(client, speaking(dialect, key=KEY), dialect.paths[0])
    assert findings[-1].dialect == name
    assert there.heard[0].path == dialect.paths[0]


async def test_a_path_that_is_not_there_is_asked_once(client: Client) -> None:
    findings, there = await found(client, always(404, b'{"detail": "Not Found"}'))
    asked = [(heard.path, "api-key" in heard.headers) for heard in there.heard]
    assert len(asked) == len(set(asked))
    assert {"/v1/rerank", "/v2/rerank", "/rerank"} < {path for path, _ in asked}
    assert not any(finding.speaks for finding in findings)
    assert findings[1].evidence == "404: Not Found"


async def test_a_wrong_key_is_asked_once_for_each_path_and_way_to_show_it(client: Client) -> None:
    findings, there = await found(client, always(401, b'{"detail": "wrong key"}'))
    asked = [(heard.path, "api-key" in heard.headers) for heard in there.heard]
    assert len(asked) == len(set(asked))
    assert ("/rerank", True) in asked
    assert {finding.verdict.code for finding in findings} == {"upstream_refused"}


async def test_an_upstream_that_has_enough_is_left_alone(client: Client) -> None:
    findings, there = await found(client, always(429))
    assert len(there.heard) == len(findings) == 1


async def test_where_nobody_is_there_nobody_is_asked_twice(client: Client) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        (finding,) = await detect(url, None, client, True, "m")
    assert finding.status is None
    assert finding.evidence.startswith("no answer: ")


async def test_a_destination_that_is_refused_is_not_asked(client: Client) -> None:
    async with upstream(always(200)) as there:
        with pytest.raises(BadSettings):
            await detect(there.url, KEY, client, False, "m")
    assert there.heard == []


async def test_the_evidence_is_cut_and_never_holds_the_key(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    async def echo(heard: Heard) -> web.Response:
        return web.json_response({"detail": f"{KEY.reveal()} {heard.headers} " + "x" * 900}, status=500)

    findings, _ = await found(client, echo)
    assert len(findings) > 1
    written = repr(findings) + msgspec.json.encode(findings).decode()
    assert KEY.reveal() not in written
    assert any(finding.evidence.startswith("500: ***") for finding in findings)
    assert caplog.text == ""
    assert all(finding.evidence.startswith("500: ") and len(finding.evidence) < 150 for finding in findings)


async def test_cohere_is_not_taken_for_whoever_answers_on_its_older_path(client: Client) -> None:
    older, newer = speaking(DIALECTS["cohere_v1"]), speaking(DIALECTS["cohere_v2"])

    async def both(heard: Heard) -> web.Response:
        return await (older if heard.path.startswith("/v1") else newer)(heard)

    findings, _ = await found(client, both)
    assert findings[-1].dialect == "cohere_v2"


async def test_an_upstream_that_repeats_the_order_speaks_nothing(client: Client) -> None:
    body = b'{"results":[{"index":0,"relevance_score":0.9},{"index":1,"relevance_score":0.8}]}'
    findings, _ = await found(client, always(200, body))
    assert not any(finding.speaks for finding in findings)
    assert "WRONG order" in findings[0].evidence
