"""A server of ours that answers in every wire format, truthfully or not: what a channel meets outside, on one's own machine.

It stands on a bare socket, since most of what goes wrong between two servers goes wrong below JSON. A document's score is
the number that its text begins with (`texts_for`), so that whoever asked can tell every wrong answer from the right one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from rerankd.dialects.base import Called
from rerankd.dialects.directory import DIALECTS
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage

CALL = Call("the-upstream", created=1_700_000_000)
LONGEST_HEAD = 2**20
TOKENS = 3
"""What a document costs at this upstream."""
SCORE_NAMES = ("relevance_score", "score", "logit")
DOCUMENT_NAMES = ("document", "text", "input")
COUNT_NAMES = (
    "prompt_tokens",
    "total_tokens",
    "input_tokens",
    "tokens_input",
    "token_usage",
    "search_units",
    "rerank_units",
    "cached_tokens",
)
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset, and throws away what was not sent yet."""


def texts_for(*scores: float) -> tuple[str, ...]:
    """Documents that a truthful upstream gives these scores."""
    return tuple(f"{score} is the score of this document" for score in scores)


def true_score(text: str) -> float:
    return float(text.split(" ", 1)[0])


@dataclass
class Answer:
    """What the truthful answer is: a JSON tree, and what is said in headers. Whoever lies changes it in place."""

    tree: Any
    headers: dict[str, str]

    @property
    def results(self) -> list[Any]:
        """The list of the results in the tree itself; of bare numbers, where the format has no more than scores."""
        found = _find_results(self.tree)
        assert found is not None, f"no results in {self.tree}"
        return found

    def put_results(self, value: object) -> None:
        """In the place of the list."""
        self.tree = _replaced(self.tree, self.results, value)

    @property
    def score_name(self) -> str | None:
        first = self.results[0]
        return next(name for name in SCORE_NAMES if name in first) if isinstance(first, dict) else None

    def put_score(self, place: int, value: object) -> None:
        name = self.score_name
        if name is None:
            self.results[place] = value
        else:
            self.results[place][name] = value

    def put_documents(self, value: object) -> None:
        """Under every name that a format may have for a document."""
        for result in self.results:
            if isinstance(result, dict):
                result.update(dict.fromkeys(DOCUMENT_NAMES, value))

    def put_counts(self, value: object) -> None:
        """As every count of tokens or units, wherever it stands."""
        _put(self.tree, COUNT_NAMES, value)
        if "x-compute-tokens" in self.headers:
            self.headers["x-compute-tokens"] = json.dumps(value).strip('"')

    def drop_counts(self) -> None:
        """All of the usage, the objects around it included."""
        if isinstance(self.tree, dict):
            for name in ("usage", "meta", "inference_status", "input_tokens", "token_usage"):
                self.tree.pop(name, None)
        self.headers.pop("x-compute-tokens", None)

    def encode(self) -> bytes:
        """As JSON. A string `RAW:1e999` becomes the bare 1e999, which no Python number could be written as."""
        text = json.dumps(self.tree)
        while '"RAW:' in text:
            before, _, rest = text.partition('"RAW:')
            raw, _, after = rest.partition('"')
            text = before + raw + after
        return text.encode()


@dataclass
class Exchange:
    """One request that came in, and the way back."""

    dialect: Called
    target: str
    headers: Mapping[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def answer(self) -> Answer:
        """The truth, to be damaged."""
        request = self._request()
        scored = [Result(place, true_score(document.text)) for place, document in enumerate(request.documents)]
        scored.sort(key=lambda result: (-result.relevance_score, result.index))
        response = RerankResponse(
            model=request.model or "the-upstream",
            results=tuple(scored[: request.top_n or len(scored)]),
            usage=Usage(prompt_tokens=TOKENS * len(scored)),
        )
        served = DIALECTS.get(self.dialect.name)
        if served is None:
            return Answer(_by_hand(self.dialect.name, response), {})
        body = served.render_response(response, request, CALL)
        return Answer(json.loads(body), dict(served.response_headers(response, request, CALL)))

    def _request(self) -> RerankRequest:
        served = DIALECTS.get(self.dialect.name)
        if served is not None:
            return served.parse_request(self.body)
        fields = json.loads(self.body)
        texts = fields.get("documents") or [pair["content"] for pair in fields["datas"]]
        return RerankRequest(query="q", documents=tuple(map(Document, texts)), top_n=fields.get("top_n"))

    async def send(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer, after which the connection ends."""
        await self.send_head(status, {"content-length": str(len(body)), **(headers or {})})
        await self.write(body)

    async def send_head(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """`headers` over a content type and the end of the connection; an empty value leaves a header out."""
        said = {"content-type": "application/json", "connection": "close", **(headers or {})}
        lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in said.items() if value)]
        await self.write("\r\n".join([*lines, "", ""]).encode())

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reset(self) -> None:
        """Ends the connection with a reset instead of an end."""
        await asyncio.sleep(0.01)  # what was written before is on its way by then
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Until the other side goes away."""
        while await self.reader.read(2**16):
            pass


Behaviour = Callable[[Exchange], Awaitable[None]]


async def truthful(exchange: Exchange) -> None:
    answer = exchange.answer()
    await exchange.send(answer.encode(), headers=answer.headers)


@dataclass
class Asked:
    """One request as it came: when, for what, with which headers."""

    at: float
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Upstream:
    """A server that speaks `dialect` and does with each request what `behaviour` says; `asked` is what came.

        async with Upstream(dialect, truthful) as upstream: ...upstream.url...

    With `listens` False there is a port that nobody listens on. `left` says how many clients went away while it worked.
    """

    dialect: Called
    behaviour: Behaviour = truthful
    listens: bool = True
    scheme: str = "http"
    asked: list[Asked] = field(default_factory=list)
    left: int = 0
    port: int = 0
    _working: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=LONGEST_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]
        if not self.listens:
            self._server.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.scheme == "https":  # which this server does not speak
                writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                return
            await self.behaviour(await self._received(reader, writer))
        except (OSError, EOFError, asyncio.LimitOverrunError):
            self.left += 1
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _received(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        target = first.split(" ")[1]
        self.asked.append(Asked(monotonic(), target, headers, body))
        return Exchange(self.dialect, target, headers, body, reader, writer)


def in_turns(behaviours: Sequence[Behaviour], then: Behaviour = truthful) -> Behaviour:
    """One request each, in this order, and `then` for all that follow."""
    left = list(behaviours)

    async def next_one(exchange: Exchange) -> None:
        await (left.pop(0) if left else then)(exchange)

    return next_one


def _by_hand(dialect: str, response: RerankResponse) -> Any:
    """An answer of a format that we call and do not serve."""
    tokens = response.usage.prompt_tokens
    if dialect == "openrouter":
        results = [{"index": one.index, "relevance_score": one.relevance_score} for one in response.results]
        usage = {"total_tokens": tokens, "search_units": 1, "cost": 0.001}
        return {"id": "gen-1", "model": response.model, "results": results, "usage": usage}
    scores = [one.relevance_score for one in sorted(response.results, key=lambda one: one.index)]
    if dialect == "deepinfra":
        return {"scores": scores, "input_tokens": tokens, "inference_status": {"status": "succeeded"}}
    assert dialect == "volcengine", f"nobody has written down what {dialect} answers"
    return {"code": 0, "message": "success", "data": {"scores": scores, "token_usage": tokens}}


def _find_results(tree: Any) -> list[Any] | None:
    if isinstance(tree, list):
        return tree
    if not isinstance(tree, dict):
        return None
    for name in ("results", "data", "rankings", "output", "scores"):
        if name in tree:
            return _find_results(tree[name])
    return None


def _replaced(tree: Any, old: list[Any], new: object) -> Any:
    if tree is old:
        return new
    return {name: _replaced(value, old, new) for name, value in tree.items()} if isinstance(tree, dict) else tree


def _put(tree: Any, names: Sequence[str], value: object) -> None:
    if not isinstance(tree, dict):
        return
    for name, inner in tree.items():
        if name in names:
            tree[name] = value
        else:
            _put(inner, names, value)
