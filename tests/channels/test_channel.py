from __future__ import annotations

import asyncio
import json
from time import monotonic

import msgspec
import pytest
from aiohttp import web

from rerankd.channels.channel import Channel
from rerankd.channels.client import Answer, Client
from rerankd.channels.keys import KeyRing, Secret
from rerankd.dialects.directory import CALLED, DIALECTS
from rerankd.errors import (
    BadRequest,
    BadSettings,
    DeadlineExceeded,
    RerankError,
    TooLarge,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnsuited,
)
from rerankd.estimate import estimated_request
from rerankd.types import Call, Document, RerankRequest, Usage
from tests.channels.upstream import KEY, TOKENS, Heard, always, channel_to, speaking, spec_for, upstream

CANARY = "sk-canary-0123456789"
ASKED = RerankRequest(
    query="Which is good?",
    documents=(Document("a bad one"), Document("a good one", {"text": "a good one", "secret field": 1})),
    model="public",
)


def changed(**fields: object) -> RerankRequest:
    return msgspec.structs.replace(ASKED, **fields)


class Silent:
    """A client that answers from a list, without a network."""

    def __init__(self, *answers: Answer | RerankError) -> None:
        self.answers = list(answers)
        self.posted: list[dict[str, object]] = []

    async def post(self, url: str, body: bytes, headers: object, **more: object) -> Answer:
        self.posted.append({"url": url, "body": body, "headers": headers, **more})
        answer = self.answers.pop(0)
        if isinstance(answer, RerankError):
            raise answer
        return answer


GOOD = Answer(200, {}, b'{"results":[{"index":1,"relevance_score":0.9},{"index":0,"relevance_score":0.1}]}')


def jina(client: Silent, ring: KeyRing | None = None, **more: object) -> Channel:
    return Channel(spec_for("https://api.jina.ai", **more), client, CALLED["jina"], ring)  # type: ignore[arg-type]


async def test_the_upstream_hears_its_own_name_and_the_caller_hears_the_public_one(client: Client, call: Call) -> None:
    seen: list[RerankRequest] = []
    async with upstream(speaking(DIALECTS["jina"], seen, key=KEY)) as there:
        answer = await channel_to(there.url, client).rerank(ASKED, call)
    assert seen[0].model == "their/own"
    assert answer.model == "public"
    assert [result.index for result in answer.results] == [1, 0]
    assert answer.usage == Usage(prompt_tokens=2 * TOKENS)
    assert there.heard[0].headers["authorization"] == f"Bearer {KEY.reveal()}"
    assert call.notes.channel == "the-channel"
    assert call.notes.attempts == 1
    assert call.notes.timings["upstream"] > 0


async def test_no_document_is_asked_for_and_no_field_of_one_is_sent(client: Client, call: Call) -> None:
    seen: list[RerankRequest] = []
    async with upstream(speaking(DIALECTS["superset"], seen)) as there:
        request = changed(return_documents=True, unread=("something",))
        answer = await channel_to(there.url, client, "superset").rerank(request, call)
    assert b"secret field" not in there.heard[0].body
    assert not seen[0].return_documents
    assert all(result.document is None for result in answer.results)


@pytest.mark.parametrize(
    ("dialect", "fields", "warned"),
    [
        ("jina", {}, []),
        ("jina", {"return_documents": True, "unread": ("x",), "top_n": 1}, []),
        ("jina", {"instruction": "be good"}, ["instruction"]),
        ("cohere_v2", {"instruction": "be good", "truncation": False}, ["instruction", "truncation"]),
        ("tei", {"top_n": 1}, []),
        ("nvidia", {"top_n": 1, "raw_scores": True}, []),
        ("nvidia", {"raw_scores": False}, ["raw_scores"]),
        ("llamacpp", {}, []),
        ("llamacpp", {"truncation": False}, []),
        ("voyage", {"priority": "batch", "overlap_tokens": 0}, ["overlap_tokens", "priority"]),
        ("voyage", {"return_embeddings": True}, ["return_embeddings"]),
    ],
)
async def test_what_the_format_cannot_carry_is_said_where_it_was_used(
    dialect: str, fields: dict[str, object], warned: list[str], client: Client, call: Call
) -> None:
    async with upstream(speaking(DIALECTS[dialect])) as there:
        answer = await channel_to(there.url, client, dialect).rerank(changed(**fields), call)
    expected = [f"{field}: not carried by the {dialect} format" for field in warned]
    assert sorted(answer.warnings) == sorted(expected)


async def test_what_the_upstream_warns_of_is_kept(call: Call) -> None:
    class Warned:
        name, paths, request_losses = "jina", ("/v1/rerank",), CALLED["jina"].request_losses

        def render_request(self, request: RerankRequest) -> bytes:
            return b"{}"

        def parse_response(self, *arguments: object) -> object:
            answer = CALLED["jina"].parse_response(*arguments)  # type: ignore[arg-type]
            return msgspec.structs.replace(answer, warnings=("the query was cut", "the query was cut"))

    channel = Channel(spec_for("https://a.example"), Silent(GOOD), Warned())  # type: ignore[arg-type]
    answer = await channel.rerank(changed(instruction="x"), call)
    assert answer.warnings == ("the query was cut", "instruction: not carried by the jina format")


@pytest.mark.parametrize(
    "usage", [None, {}, {"total_tokens": 0}, {"total_tokens": -5}, {"total_tokens": 10**12}, {"total_tokens": 1e300}]
)
async def test_usage_that_is_missing_negative_or_huge_is_estimated(usage: object, call: Call) -> None:
    body = {"results": [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": 0.5}], "usage": usage}
    answer = await jina(Silent(Answer(200, {}, json.dumps(body).encode()))).rerank(ASKED, call)
    assert answer.usage.estimated
    assert answer.usage.prompt_tokens == estimated_request(ASKED)


@pytest.mark.parametrize("asked", ["other", "their/own", "PUBLIC", ""])
async def test_a_model_that_the_channel_does_not_have_is_not_asked_for(asked: str, call: Call) -> None:
    silent = Silent()
    with pytest.raises(UpstreamUnsuited):
        await jina(silent).rerank(changed(model=asked), call)
    assert silent.posted == []


async def test_without_a_model_the_only_one_is_meant(call: Call) -> None:
    assert (await jina(Silent(GOOD)).rerank(changed(model=None), call)).model == "public"
    with pytest.raises(UpstreamUnsuited):
        await jina(Silent(), models={"a": "x", "b": "y"}).rerank(changed(model=None), call)


async def test_the_channels_own_headers_and_bounds_go_along(call: Call) -> None:
    silent = Silent(GOOD)
    await jina(
        silent, headers={"x-team": "search", "Authorization": "Token abc"}, proxy="http://10.0.0.1:3128", timeout=7.0
    ).rerank(ASKED, call)
    (posted,) = silent.posted
    assert posted["headers"] == {"x-team": "search", "Authorization": "Token abc"}
    assert (posted["proxy"], posted["timeout"], posted["allow_private"]) == ("http://10.0.0.1:3128", 7.0, True)
    assert posted["url"] == "https://api.jina.ai/v1/rerank"


async def test_a_header_of_the_channels_own_is_sent_once(client: Client, call: Call) -> None:
    async with upstream(speaking(DIALECTS["pinecone"])) as there:
        own = {"API-KEY": "its-own-key", "x-pinecone-api-version": "2099-01", "content-type": "application/json; a=b"}
        await channel_to(there.url, client, "pinecone", headers=own).rerank(ASKED, call)
    heard = there.heard[0].headers
    assert {name: heard[name.lower()] for name in own} == own
    assert KEY.reveal() not in str(heard)


async def test_pinecone_gets_its_own_headers(call: Call) -> None:
    silent = Silent(Answer(200, {}, b'{"data":[{"index":0,"score":0.1},{"index":1,"score":0.2}]}'))
    await Channel(spec_for("https://api.pinecone.io"), silent, CALLED["pinecone"]).rerank(ASKED, call)
    headers = silent.posted[0]["headers"]
    assert isinstance(headers, dict)
    assert headers["Api-Key"] == KEY.reveal()
    assert headers["X-Pinecone-Api-Version"]
    assert "Authorization" not in headers


async def test_without_a_key_none_is_shown(call: Call) -> None:
    silent = Silent(GOOD)
    await jina(silent, keys=()).rerank(ASKED, call)
    assert silent.posted[0]["headers"] == {}


async def test_a_model_in_the_path_is_quoted(call: Call) -> None:
    silent = Silent(Answer(200, {}, b'{"scores":[0.1,0.2]}'))
    spec = spec_for("https://api.deepinfra.com", models={"public": "Qwen/R 8B?x=1#y"})
    await Channel(spec, silent, CALLED["deepinfra"]).rerank(ASKED, call)
    assert silent.posted[0]["url"] == "https://api.deepinfra.com/v1/inference/Qwen/R%208B%3Fx%3D1%23y"
    with pytest.raises(BadSettings):
        Channel(spec_for("https://a.example", models={"public": "../x"}), silent, CALLED["deepinfra"])


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, UpstreamUnsuited),
        (400, BadRequest),
        (401, UpstreamRefused),
        (402, UpstreamRefused),
        (403, UpstreamRefused),
        (404, UpstreamUnsuited),
        (405, UpstreamUnsuited),
        (408, UpstreamUnavailable),
        (413, TooLarge),
        (422, BadRequest),
        (429, UpstreamBusy),
        (500, UpstreamError),
        (501, UpstreamUnsuited),
        (502, UpstreamUnavailable),
        (503, UpstreamUnavailable),
        (504, UpstreamUnavailable),
    ],
)
async def test_an_upstreams_error_becomes_ours_without_a_word_of_its_own(
    status: int, kind: type[RerankError], client: Client, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    said = f"canary <b>{KEY.reveal()}</b> {ASKED.query} " + "x" * 900
    async with upstream(always(status, json.dumps({"detail": said}).encode(), {"retry-after": "9"})) as there:
        with pytest.raises(RerankError) as caught:
            await channel_to(there.url, client).rerank(ASKED, call)
    assert type(caught.value) is kind
    assert "canary" not in caught.value.message
    assert KEY.reveal() not in caplog.text
    assert ASKED.query not in caplog.text
    assert all(len(record.getMessage()) < 300 for record in caplog.records)
    assert call.notes.channel is None
    assert call.notes.attempts == 1
    if status == 429:
        assert caught.value.retry_after == pytest.approx(9, abs=0.5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>It works!</html>",
        b"null",
        b"[]",
        b'{"results": 1}',
        b'{"results":[{"index":0}]}',
        b"\xff\xfe",
        b"[" * 100000,
        b'{"results":[{"index":"0","relevance_score":1}]}',
        b'{"results":[{"index":0,"relevance_score":NaN}]}',
    ],
)
async def test_an_answer_that_is_none_is_malformed(body: bytes, call: Call) -> None:
    with pytest.raises(UpstreamMalformed):
        await jina(Silent(Answer(200, {}, body))).rerank(ASKED, call)


async def test_a_codec_that_fails_over_an_answer_is_no_error_of_ours(call: Call) -> None:
    class Broken:
        name, paths, request_losses = "jina", ("/v1/rerank",), CALLED["jina"].request_losses

        def render_request(self, request: RerankRequest) -> bytes:
            return b"{}"

        def parse_response(self, *arguments: object) -> object:
            return int(float("inf"))

    with pytest.raises(UpstreamMalformed):
        await Channel(spec_for("https://a.example"), Silent(GOOD), Broken()).rerank(ASKED, call)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dialect", "body", "kind"),
    [
        ("dashscope", b'{"code": "Throttling.RateQuota", "message": "x"}', UpstreamBusy),
        ("dashscope", b'{"code": "InvalidApiKey", "message": "x"}', UpstreamRefused),
        ("dashscope", b'{"code": "InvalidParameter", "message": "x"}', BadRequest),
        ("volcengine", b'{"code": 300004, "message": "x"}', UpstreamBusy),
        ("volcengine", b'{"code": 1000001, "message": "x"}', UpstreamRefused),
        ("volcengine", b'{"code": 77, "message": "x"}', UpstreamError),
    ],
)
async def test_an_error_in_an_answer_of_success_is_an_error(
    dialect: str, body: bytes, kind: type[RerankError], call: Call
) -> None:
    channel = Channel(spec_for("https://a.example"), Silent(Answer(200, {}, body)), CALLED[dialect])
    with pytest.raises(RerankError) as caught:
        await channel.rerank(ASKED, call)
    assert type(caught.value) is kind


async def test_a_deadline_that_has_passed_sends_nothing() -> None:
    silent = Silent()
    call = Call("late", deadline=monotonic() - 1)
    with pytest.raises(DeadlineExceeded):
        await jina(silent).rerank(ASKED, call)
    assert silent.posted == []
    assert call.notes.attempts == 0


async def test_the_callers_deadline_and_the_channels_timeout_are_told_apart() -> None:
    silent = Silent(GOOD, GOOD)
    await jina(silent, timeout=3.0).rerank(ASKED, Call("a", deadline=monotonic() + 100))
    await jina(silent, timeout=100.0).rerank(ASKED, Call("b", deadline=monotonic() + 3))
    assert silent.posted[0]["timeout"] == 3.0
    assert silent.posted[1]["timeout"] == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize(
    ("deadline", "timeout", "kind"), [(0.05, 5.0, DeadlineExceeded), (5.0, 0.05, UpstreamUnavailable)]
)
async def test_whose_time_was_up_decides_the_error(
    deadline: float, timeout: float, kind: type[RerankError], client: Client
) -> None:
    async def slow(heard: Heard) -> web.Response:
        await asyncio.sleep(0.2)
        return web.Response()

    async with upstream(slow) as there:
        with pytest.raises(kind):
            await channel_to(there.url, client, timeout=timeout).rerank(
                ASKED, Call("slow", deadline=monotonic() + deadline)
            )


REFUSED, BUSY = Answer(401, {}, b"{}"), Answer(429, {"retry-after": "30"}, b"{}")
ONE, TWO = Secret("key-number-one"), Secret("key-number-two")


def shown(silent: Silent) -> list[str]:
    return [dict(posted["headers"])["Authorization"].removeprefix("Bearer ") for posted in silent.posted]  # type: ignore[call-overload]


async def test_keys_take_turns(call: Call) -> None:
    silent = Silent(*[GOOD] * 4)
    channel = jina(silent, keys=(ONE, TWO))
    for _ in range(4):
        await channel.rerank(ASKED, call)
    assert shown(silent) == [ONE.reveal(), TWO.reveal()] * 2


@pytest.mark.parametrize("answer", [REFUSED, BUSY, Answer(402, {}, b""), Answer(403, {}, b"")])
async def test_a_key_that_is_not_taken_rests_alone_while_the_other_answers(answer: Answer, call: Call) -> None:
    silent = Silent(answer, GOOD, GOOD, GOOD)
    channel = jina(silent, keys=(ONE, TWO))
    for _ in range(3):
        await channel.rerank(ASKED, call)
    assert shown(silent) == [ONE.reveal(), TWO.reveal(), TWO.reveal(), TWO.reveal()]
    assert call.notes.attempts == 4


async def test_the_only_keys_refusal_is_the_channels_and_is_not_repeated(call: Call) -> None:
    silent = Silent(REFUSED)
    channel = jina(silent, keys=(ONE,))
    for _ in range(3):
        with pytest.raises(UpstreamRefused):
            await channel.rerank(ASKED, call)
    assert len(silent.posted) == 1


async def test_without_keys_a_refusal_is_passed_on_each_time(call: Call) -> None:
    channel = jina(Silent(REFUSED, REFUSED, BUSY), keys=())
    for kind in (UpstreamRefused, UpstreamRefused, UpstreamBusy):
        with pytest.raises(kind):
            await channel.rerank(ASKED, call)


async def test_where_all_keys_have_enough_no_call_is_made_before_its_time(call: Call) -> None:
    silent = Silent(BUSY, Answer(429, {"retry-after": "20"}, b"{}"))
    channel = jina(silent, keys=(ONE, TWO))
    for _ in range(2):
        with pytest.raises(UpstreamBusy) as caught:
            await channel.rerank(ASKED, call)
        assert caught.value.retry_after == pytest.approx(20, abs=0.5)
    assert len(silent.posted) == 2


@pytest.mark.parametrize("said", ["0", "0.0"])
async def test_an_upstream_that_wants_no_rest_is_still_not_asked_at_once(said: str, call: Call) -> None:
    silent = Silent(Answer(429, {"retry-after": said}, b"{}"))
    with pytest.raises(UpstreamBusy) as caught:
        await jina(silent, keys=(ONE,)).rerank(ASKED, call)
    assert caught.value.retry_after
    assert len(silent.posted) == 1


async def test_no_more_than_three_keys_are_tried_for_one_request(call: Call) -> None:
    keys = tuple(Secret(f"key-number-{number}") for number in range(5))
    silent = Silent(*[REFUSED] * 3)
    with pytest.raises(UpstreamUnavailable):
        await jina(silent, keys=keys).rerank(ASKED, call)
    assert call.notes.attempts == len(silent.posted) == 3


async def test_where_the_last_key_that_is_tried_is_the_last_there_is_a_person_is_needed(call: Call) -> None:
    keys = tuple(Secret(f"key-number-{number}") for number in range(3))
    with pytest.raises(UpstreamRefused):
        await jina(Silent(*[REFUSED] * 3), keys=keys).rerank(ASKED, call)


async def test_another_error_is_not_held_against_a_key(call: Call) -> None:
    silent = Silent(Answer(500, {}, b""), UpstreamUnavailable("gone"), Answer(400, {}, b""), GOOD)
    channel = jina(silent, keys=(ONE,))
    for kind in (UpstreamError, UpstreamUnavailable, BadRequest):
        with pytest.raises(kind):
            await channel.rerank(ASKED, call)
    await channel.rerank(ASKED, call)


async def test_a_key_is_in_no_error_no_log_and_no_repr(
    client: Client, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    caplog.set_level("WARNING", "asyncio")
    texts = []

    async def echo(heard: Heard) -> web.Response:
        status = [200, 401, 400, 500, 429][len(there.heard) % 5]
        return web.Response(status=status, body=json.dumps({"detail": str(heard.headers)}).encode())

    async with upstream(echo) as there:
        for number in range(5):
            channel = channel_to(there.url, client, keys=(Secret(CANARY),), headers={"x-other": "canary-in-a-header"})
            texts += [repr(channel), str(vars(channel).keys())]
            with pytest.raises(RerankError) as caught:
                await channel.rerank(ASKED, Call(f"call-{number}"))
            texts += [repr(caught.value), repr(caught.value.__context__), str(vars(caught.value))]
    printed = "".join(texts) + caplog.text
    assert "canary" not in printed
    assert "***" in caplog.text


async def test_the_upstream_hears_of_the_trace_where_there_is_one(client: Client, call: Call) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with upstream(speaking(DIALECTS["jina"], key=KEY)) as there:
        channel = channel_to(there.url, client)
        await channel.rerank(ASKED, call)
        await channel.rerank(ASKED, msgspec.structs.replace(call, traceparent=traceparent))
    assert [heard.headers.get("traceparent") for heard in there.heard] == [None, traceparent]
