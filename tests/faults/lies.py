"""Every way we know in which an upstream can lie, break or stall, and the ends that a channel may come to with each.

A lie is told in any wire format: the truthful answer is damaged as a tree, as bytes or as a connection. `ends` are the
classes of errors that one channel by itself may raise; `RIGHT` among them says that it may also give the right answer.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache

from rerankd.dialects.base import Called
from rerankd.errors import (
    BadRequest,
    ClientError,
    RerankError,
    TooLarge,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnsuited,
)
from tests.faults.hostile import Answer, Behaviour, Exchange

CANARY = "canary-text-of-the-upstream"
"""Stands in every error and foreign document of a lie: no caller may ever read it."""
METADATA = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"
SOON, LATER = "7", "3600"
MIB = 2**20
BARE_SCORES = ("deepinfra", "volcengine")
"""Formats in which a result is a number at its place, without an index."""


class Right:
    """The answer is as it should be."""


RIGHT = Right
Ends = tuple[type[RerankError] | type[Right], ...]

MALFORMED: Ends = (UpstreamMalformed,)
BROKEN: Ends = (UpstreamMalformed, UpstreamUnavailable)
HARMLESS: Ends = (RIGHT,)
EITHER: Ends = (RIGHT, UpstreamMalformed)
ANY: Ends = (RIGHT, UpstreamError)


def everywhere(dialect: Called) -> bool:
    return True


def with_index(dialect: Called) -> bool:
    return dialect.name not in BARE_SCORES


@dataclass(frozen=True)
class Lie:
    """`slow` lies take all the time that the channel has."""

    name: str
    tell: Behaviour
    ends: Ends
    applies: Callable[[Called], bool] = everywhere
    slow: bool = False
    listens: bool = True
    scheme: str = "http"

    @property
    def key(self) -> bool:
        return self.name in KEY


Change = Callable[[Answer], object]


def damaged(change: Change) -> Behaviour:
    """The truthful answer with a change in its tree or its headers."""

    async def tell(exchange: Exchange) -> None:
        answer = exchange.answer()
        change(answer)
        await exchange.send(answer.encode(), headers=answer.headers)

    return tell


def bytes_of(change: Callable[[bytes], bytes], headers: Mapping[str, str] | None = None) -> Behaviour:
    """The truthful answer with a change in its bytes, and with other headers."""

    async def tell(exchange: Exchange) -> None:
        answer = exchange.answer()
        await exchange.send(change(answer.encode()), headers={**answer.headers, **(headers or {})})

    return tell


def instead(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Another body altogether."""

    async def tell(exchange: Exchange) -> None:
        await exchange.send(body, status, headers)

    return tell


# --- what stands in the results ---------------------------------------------------------------------------------------


def index(value: object) -> Change:
    """In the second result."""

    def change(answer: Answer) -> None:
        answer.results[1]["index"] = value

    return change


def score(value: object) -> Change:
    return lambda answer: answer.put_score(1, value)


def _double_index(answer: Answer) -> None:
    answer.results[1]["index"] = answer.results[0]["index"]


def _score_as_a_string(answer: Answer) -> None:
    name, second = answer.score_name, answer.results[1]
    answer.put_score(1, str(second if name is None else second[name]))


def _without(name: str | None) -> Change:
    def change(answer: Answer) -> None:
        answer.results[1].pop(name or answer.score_name)

    return change


def _one_more(answer: Answer) -> None:
    last = answer.results[-1]
    answer.results.append({**last, "index": len(answer.results)} if isinstance(last, dict) else last)


def _unsorted(answer: Answer) -> None:
    answer.results.sort(key=lambda result: result["index"], reverse=True)


def _no_results(answer: Answer) -> None:
    answer.put_results(None)
    if isinstance(answer.tree, dict):
        answer.tree = {name: value for name, value in answer.tree.items() if value is not None}


INDEX: Mapping[str, tuple[Change, Ends]] = {
    "an index past the end": (index(999), MALFORMED),
    "a negative index": (index(-1), MALFORMED),
    "an index twice": (_double_index, MALFORMED),
    "an index as a string": (index("1"), EITHER),
    "an index that is a broken number": (index(1.5), MALFORMED),
    "an index as a word": (index("first"), MALFORMED),
    "an index that is null": (index(None), MALFORMED),
    "an index that is true": (index(True), EITHER),
    "no index": (_without("index"), EITHER),  # what is absent may be read as the place in the list
    "an index beyond 64 bits": (index(2**64 + 1), MALFORMED),
    "an index of 100,000 digits": (index("RAW:" + "9" * 100_000), MALFORMED),
    "an index of 1e999": (index("RAW:1e999"), MALFORMED),
}
SCORE: Mapping[str, tuple[Change, Ends]] = {
    "a score of NaN": (score(float("nan")), MALFORMED),
    "a score of Infinity": (score(float("inf")), MALFORMED),
    "a score of -Infinity": (score(float("-inf")), MALFORMED),
    "a score of 1e999": (score("RAW:1e999"), MALFORMED),
    "a score of 400 digits": (score("RAW:" + "9" * 400), MALFORMED),
    "a score that is null": (score(None), MALFORMED),
    "a score as a string": (_score_as_a_string, EITHER),
    "a score as a word": (score("high"), MALFORMED),
    "a score as the string NaN": (score("NaN"), MALFORMED),
    "a score that is true": (score(True), MALFORMED),
    "a score in a list": (score([0.5]), MALFORMED),
    "a score in an object": (score({"value": 0.5}), MALFORMED),
}
COUNT: Mapping[str, tuple[Change, Ends]] = {
    "a result too few": (lambda answer: answer.results.pop(), MALFORMED),
    "a result too many": (_one_more, MALFORMED),
    "every result twice": (lambda answer: answer.results.extend(list(answer.results)), MALFORMED),
    "an empty list": (lambda answer: answer.results.clear(), MALFORMED),
    "null for the results": (lambda answer: answer.put_results(None), MALFORMED),
    "a string for the results": (lambda answer: answer.put_results(CANARY), MALFORMED),
    "an object for the results": (lambda answer: answer.put_results({"0": 0.5}), MALFORMED),
    "lists for the results": (lambda answer: answer.put_results([[0, 0.5], [1, 0.4]]), MALFORMED),
    "no results": (_no_results, MALFORMED),
}
DOCUMENTS: Mapping[str, tuple[Change, Ends]] = {
    "foreign texts": (lambda answer: answer.put_documents(CANARY), EITHER),
    "foreign objects": (lambda answer: answer.put_documents({"text": CANARY, "id": 7}), EITHER),
    "objects without a text": (lambda answer: answer.put_documents({"title": CANARY}), EITHER),
    "documents that are null": (lambda answer: answer.put_documents(None), EITHER),
    "documents that are numbers": (lambda answer: answer.put_documents(7), EITHER),
    "documents of half a character": (lambda answer: answer.put_documents("\ud800"), EITHER),
}
USAGE: Mapping[str, tuple[Change, Ends]] = {
    "no usage": (lambda answer: answer.drop_counts(), HARMLESS),
    "a usage of null": (lambda answer: answer.put_counts(None), HARMLESS),
    "a negative usage": (lambda answer: answer.put_counts(-1000), HARMLESS),
    "a huge usage": (lambda answer: answer.put_counts(10**15), HARMLESS),
    "a usage beyond 64 bits": (lambda answer: answer.put_counts(2**70), EITHER),
    "a usage of 1e999": (lambda answer: answer.put_counts("RAW:1e999"), EITHER),
    "a usage of 1e300": (lambda answer: answer.put_counts(1e300), EITHER),
    "a usage as a string": (lambda answer: answer.put_counts("many"), EITHER),
    "a usage in a list": (lambda answer: answer.put_counts([7]), EITHER),
    "a usage of NaN": (lambda answer: answer.put_counts(float("nan")), EITHER),
}


def _model(value: object) -> Change:
    def change(answer: Answer) -> None:
        if isinstance(answer.tree, dict):
            answer.tree["model"] = value

    return change


MODEL: Mapping[str, tuple[Change, Ends]] = {
    "another model's name": (_model("gpt-" + CANARY), HARMLESS),
    "a model that is null": (_model(None), EITHER),
    "a model that is a number": (_model(7), EITHER),
}

# --- what the bytes are -----------------------------------------------------------------------------------------------

PAGE = f"<!doctype html><html><body><h1>502 Bad Gateway</h1><p>{CANARY}</p></body></html>".encode()
EVENTS = f"data: {json.dumps({'text': CANARY})}\n\ndata: [DONE]\n\n".encode()
ERROR = {"error": {"message": CANARY, "type": "server_error", "code": "oops"}, "message": CANARY, "detail": CANARY}

BYTES: Mapping[str, tuple[Behaviour, Ends]] = {
    "a page with status 200": (instead(PAGE, headers={"content-type": "text/html"}), MALFORMED),
    "a page called JSON": (instead(PAGE), MALFORMED),
    "an error with status 200": (instead(json.dumps(ERROR).encode()), (UpstreamError,)),
    "an empty body": (instead(b""), MALFORMED),
    "blanks": (instead(b" \r\n" * 100), MALFORMED),
    "null": (instead(b"null"), MALFORMED),
    "a number": (instead(b"7"), MALFORMED),
    "a string": (instead(json.dumps(CANARY).encode()), MALFORMED),
    "an empty object": (instead(b"{}"), MALFORMED),
    "an empty array": (instead(b"[]"), MALFORMED),
    "events": (instead(EVENTS, headers={"content-type": "text/event-stream"}), MALFORMED),
    "binary data": (instead(bytes(range(256)) * 4, headers={"content-type": "application/octet-stream"}), MALFORMED),
    "100,000 open brackets": (instead(b"[" * 100_000), MALFORMED),
    "100,000 nested objects": (instead(b'{"results":' * 100_000), MALFORMED),
    "half of the JSON": (bytes_of(lambda body: body[: len(body) // 2]), MALFORMED),
    "JSON without its last byte": (bytes_of(lambda body: body[:-1]), MALFORMED),
    "JSON and more": (bytes_of(lambda body: body + b"]}"), MALFORMED),
    "JSON twice": (bytes_of(lambda body: body + b"\n" + body), MALFORMED),
    "JSON with a byte order mark": (bytes_of(lambda body: b"\xef\xbb\xbf" + body), EITHER),
    "UTF-16": (bytes_of(lambda body: body.decode().encode("utf-16")), EITHER),
    "JSON with NUL bytes": (bytes_of(lambda body: body.replace(b",", b",\0")), MALFORMED),
    "JSON of another content type": (bytes_of(bytes, {"content-type": "text/html; charset=x"}), EITHER),
    "JSON without a content type": (bytes_of(bytes, {"content-type": ""}), EITHER),
    "JSON of a broken content type": (bytes_of(bytes, {"content-type": ";;=,\x80"}), ANY),
    "gzip, as agreed": (bytes_of(gzip.compress, {"content-encoding": "gzip"}), HARMLESS),
    "half of a gzip": (bytes_of(lambda body: gzip.compress(body)[:-20], {"content-encoding": "gzip"}), BROKEN),
    "plain JSON called gzip": (bytes_of(bytes, {"content-encoding": "gzip"}), BROKEN),
    "gzip in gzip": (bytes_of(lambda b: gzip.compress(gzip.compress(b)), {"content-encoding": "gzip, gzip"}), ANY),
    "brotli, not agreed": (bytes_of(bytes, {"content-encoding": "br"}), ANY),
    "an unknown encoding": (bytes_of(bytes, {"content-encoding": "rot13"}), ANY),
    "a length too long": (bytes_of(bytes, {"content-length": "1000000"}), BROKEN),
    "a length too short": (bytes_of(bytes, {"content-length": "10"}), BROKEN),
    "a negative length": (bytes_of(bytes, {"content-length": "-1"}), ANY),
    "a length of 9e99": (bytes_of(bytes, {"content-length": "9" * 99}), BROKEN),
    "a length and chunks": (bytes_of(bytes, {"transfer-encoding": "chunked"}), ANY),
    "chunks of a broken size": (
        bytes_of(lambda body: b"zz\r\n" + body, {"transfer-encoding": "chunked", "content-length": ""}),
        BROKEN,
    ),
    "chunks without an end": (
        bytes_of(lambda body: b"5\r\n" + body[:5] + b"\r\n", {"transfer-encoding": "chunked", "content-length": ""}),
        BROKEN,
    ),
    "an endless cookie": (bytes_of(bytes, {"set-cookie": "a=" + "b" * 3000}), ANY),
    "a header of 1 MiB": (bytes_of(bytes, {"x-long": "a" * MIB}), ANY),
    "20,000 headers": (bytes_of(bytes, {f"x-{number}": "a" for number in range(20_000)}), ANY),
    "another way to go on": (bytes_of(bytes, {"link": f"<{METADATA}>; rel=next", "refresh": "0;url=" + METADATA}), ANY),
}

# --- sizes ------------------------------------------------------------------------------------------------------------


@cache
def _bomb() -> bytes:
    return gzip.compress(b"[" + b" " * (128 * MIB))


async def _gzip_bomb(exchange: Exchange) -> None:
    await exchange.send(_bomb(), headers={"content-encoding": "gzip"})


async def _ten_megabytes(exchange: Exchange) -> None:
    """The truth after 10 MB of blanks, which JSON allows."""
    body = exchange.answer().encode()
    await exchange.send_head(headers={"content-length": str(10 * MIB + len(body))})
    for _ in range(10 * 16):
        await exchange.write(b" " * (MIB // 16))
    await exchange.write(body)


async def _without_end(exchange: Exchange) -> None:
    """As much as the other side takes."""
    await exchange.send_head(headers={"transfer-encoding": "chunked"})
    piece = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    while True:
        await exchange.write(piece)


async def _a_million_results(exchange: Exchange) -> None:
    """The results of the truth, as often as that takes, written piece by piece."""
    answer = exchange.answer()
    whole = answer.encode()
    first = json.dumps(answer.results[0]).encode()
    before, _, after = whole.partition(first)
    await exchange.send_head(headers={"transfer-encoding": "chunked"})
    await exchange.write(_chunk(before))
    piece = _chunk((first + b", ") * 1000)
    for _ in range(1000):
        await exchange.write(piece)
    await exchange.write(_chunk(first + after) + b"0\r\n\r\n")


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


SIZES: Mapping[str, tuple[Behaviour, Ends]] = {
    "a gzip bomb": (_gzip_bomb, MALFORMED),
    "an answer of 10 MB": (_ten_megabytes, MALFORMED),
    "an answer without end": (_without_end, MALFORMED),
    "a million results": (_a_million_results, MALFORMED),
}

# --- the connection ---------------------------------------------------------------------------------------------------


async def _reset_at_once(exchange: Exchange) -> None:
    await exchange.reset()


async def _reset_after_the_head(exchange: Exchange) -> None:
    await exchange.send_head(headers={"content-length": "1000"})
    await exchange.reset()


async def _reset_in_the_middle(exchange: Exchange) -> None:
    body = exchange.answer().encode()
    await exchange.send_head(headers={"content-length": str(len(body))})
    await exchange.write(body[: len(body) // 2])
    await exchange.reset()


async def _end_at_once(exchange: Exchange) -> None:
    """Neither a byte nor a reset."""


async def _end_after_the_head(exchange: Exchange) -> None:
    await exchange.send_head(headers={"content-length": "1000"})


async def _end_in_the_head(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\ncontent-type: appl")


def _raw(data: bytes) -> Behaviour:
    async def tell(exchange: Exchange) -> None:
        await exchange.write(data)

    return tell


async def _json_without_a_head(exchange: Exchange) -> None:
    await exchange.write(exchange.answer().encode())


CONNECTION: Mapping[str, tuple[Behaviour, Ends]] = {
    "a reset before the answer": (_reset_at_once, (UpstreamUnavailable,)),
    "a reset after the head": (_reset_after_the_head, BROKEN),
    "a reset in the middle": (_reset_in_the_middle, BROKEN),
    "an end before the answer": (_end_at_once, (UpstreamUnavailable,)),
    "an end in the head": (_end_in_the_head, BROKEN),
    "an end after the head": (_end_after_the_head, BROKEN),
    "no HTTP": (_raw(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n"), BROKEN),
    "JSON without a head": (_json_without_a_head, BROKEN),
    "a status that is a word": (_raw(b"HTTP/1.1 fine OK\r\ncontent-length: 0\r\n\r\n"), BROKEN),
    "a status of 99999": (_raw(b"HTTP/1.1 99999 OK\r\ncontent-length: 0\r\n\r\n"), (UpstreamError,)),
    "a head with NUL": (_raw(b"HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 2\r\n\r\n{}"), BROKEN),
    "another protocol": (
        _raw(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n{}"),
        (UpstreamError,),
    ),
}

# --- time -------------------------------------------------------------------------------------------------------------

DRIP = 0.02


async def _hang(exchange: Exchange) -> None:
    await exchange.hang()


async def _hang_after_the_head(exchange: Exchange) -> None:
    await exchange.send_head(headers={"content-length": "1000"})
    await exchange.hang()


async def _hang_before_the_last_byte(exchange: Exchange) -> None:
    body = exchange.answer().encode()
    await exchange.send_head(headers={"content-length": str(len(body))})
    await exchange.write(body[:-1])
    await exchange.hang()


async def _drip(exchange: Exchange, byte: bytes) -> None:
    while not exchange.writer.is_closing():
        await exchange.write(byte)
        await asyncio.sleep(DRIP)


async def _trickled_body(exchange: Exchange) -> None:
    await exchange.send_head(headers={"content-length": str(MIB)})
    await _drip(exchange, b" ")


async def _trickled_head(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    await _drip(exchange, b"a")


async def _continued_for_ever(exchange: Exchange) -> None:
    await _drip(exchange, b"HTTP/1.1 100 Continue\r\n\r\n")


TIME: Mapping[str, tuple[Behaviour, Ends]] = {
    "silence": (_hang, (UpstreamUnavailable,)),
    "silence after the head": (_hang_after_the_head, (UpstreamUnavailable,)),
    "silence before the last byte": (_hang_before_the_last_byte, (UpstreamUnavailable,)),
    "a body that trickles": (_trickled_body, (UpstreamUnavailable,)),
    "a head that trickles": (_trickled_head, (UpstreamUnavailable,)),
    "100 Continue for ever": (_continued_for_ever, BROKEN),
}

# --- statuses ---------------------------------------------------------------------------------------------------------

STATUSES: Mapping[int, Ends] = {
    400: (BadRequest,),
    401: (UpstreamRefused,),
    402: (UpstreamRefused,),
    403: (UpstreamRefused,),
    404: (UpstreamUnsuited,),
    405: (UpstreamUnsuited,),
    408: (UpstreamUnavailable,),
    413: (TooLarge,),
    422: (BadRequest,),
    429: (UpstreamBusy,),
    500: (UpstreamError,),
    501: (UpstreamUnsuited,),
    502: (UpstreamUnavailable,),
    503: (UpstreamUnavailable, UpstreamBusy),
    504: (UpstreamUnavailable,),
}
ODD_STATUSES: Mapping[int, Ends] = {
    201: ANY,
    202: ANY,
    203: ANY,
    204: (UpstreamError,),
    205: ANY,
    206: ANY,
    304: (UpstreamError,),
    409: (UpstreamError, ClientError),
    418: (UpstreamError, ClientError),
    424: (UpstreamError, ClientError),
    451: (UpstreamError, ClientError),
    507: (UpstreamError,),
    529: (UpstreamError,),
    599: (UpstreamError,),
}
REDIRECTS = (300, 301, 302, 303, 307, 308)
RETRY_AFTER: Mapping[str, str] = {
    "an hour": LATER,
    "a century": str(100 * 365 * 86400),
    "a negative time": "-5",
    "a date": "Fri, 31 Dec 2199 23:59:59 GMT",
    "infinity": "inf",
    "400 digits": "9" * 400,
    "a word": CANARY,
}


def refusing(status: int, headers: Mapping[str, str] | None = None) -> Behaviour:
    """An error that says again what it was sent, the key included: some servers do."""

    async def tell(exchange: Exchange) -> None:
        said = f"{CANARY} {exchange.headers}"
        error = {"error": {"message": said, "type": "server_error", "code": "oops"}, "message": said, "detail": said}
        await exchange.send(json.dumps(error).encode(), status, headers)

    return tell


async def _true_for_another(exchange: Exchange, status: int) -> None:
    answer = exchange.answer()
    await exchange.send(answer.encode(), status, answer.headers)


def _odd(status: int) -> Behaviour:
    def tell(exchange: Exchange) -> Awaitable[None]:
        return _true_for_another(exchange, status)

    return tell


CODES: Mapping[str, tuple[Mapping[str, object], Ends]] = {
    "busy": ({"dashscope": "Throttling.RateQuota", "volcengine": 300004}, (UpstreamBusy,)),
    "a refused key": ({"dashscope": "InvalidApiKey", "volcengine": 1000001}, (UpstreamRefused,)),
    "a bad request": ({"dashscope": "InvalidParameter", "volcengine": 1000002}, (BadRequest,)),
    "no capacity": ({"dashscope": "ModelServingError", "volcengine": 1000028}, (UpstreamUnavailable,)),
    "a code that nobody knows": ({"dashscope": "Oops", "volcengine": 7}, (UpstreamError,)),
}
"""What two formats say in the body of an answer whose status is 200."""


def _coded(codes: Mapping[str, object]) -> Behaviour:
    async def tell(exchange: Exchange) -> None:
        said = {"code": codes[exchange.dialect.name], "message": f"{CANARY} {exchange.headers}", "request_id": "7"}
        await exchange.send(json.dumps(said).encode())

    return tell


def with_codes(dialect: Called) -> bool:
    return dialect.name in ("dashscope", "volcengine")


KEY = {
    *(f"{name} with status 200" for name in CODES),
    "an index past the end",
    "a negative index",
    "an index twice",
    "a score of NaN",
    "a score of 1e999",
    "a score that is null",
    "a result too few",
    "a result too many",
    "no results",
    "foreign texts",
    "no usage",
    "a negative usage",
    "a usage of 1e999",
    "another model's name",
    "a page with status 200",
    "an error with status 200",
    "half of the JSON",
    "100,000 open brackets",
    "gzip, as agreed",
    "a reset in the middle",
    "status 401",
    "status 404",
    "status 422",
    "status 429 with Retry-After",
    "status 500",
}
"""Lies that are told in every format in every run, since how each is met is partly up to the codec."""


def _all() -> dict[str, Lie]:
    lies: list[Lie] = [Lie(name, damaged(change), ends, with_index) for name, (change, ends) in INDEX.items()]
    for changes in (SCORE, COUNT, USAGE, MODEL):
        lies += [Lie(name, damaged(change), ends) for name, (change, ends) in changes.items()]
    lies += [Lie(name, damaged(change), ends, with_index) for name, (change, ends) in DOCUMENTS.items()]
    lies += [
        Lie("no score", damaged(_without(None)), MALFORMED, with_index),
        Lie("results in no order", damaged(_unsorted), HARMLESS, with_index),
    ]
    for told in (BYTES, SIZES, CONNECTION):
        lies += [Lie(name, tell, ends) for name, (tell, ends) in told.items()]
    lies += [Lie(name, tell, ends, slow=True) for name, (tell, ends) in TIME.items()]
    lies += [
        Lie("nobody listens", _hang, (UpstreamUnavailable,), listens=False),
        Lie("no TLS where there should be", _hang, (UpstreamUnavailable,), scheme="https"),
    ]
    lies += _of_statuses()
    lies += [Lie(f"{name} with status 200", _coded(codes), ends, with_codes) for name, (codes, ends) in CODES.items()]
    return {lie.name: lie for lie in lies}


def _of_statuses() -> list[Lie]:
    lies = []
    for status, ends in STATUSES.items():
        lies.append(Lie(f"status {status}", refusing(status), ends))
        lies.append(Lie(f"status {status} with Retry-After", refusing(status, {"retry-after": SOON}), ends))
        lies.append(Lie(f"status {status} with a page", instead(PAGE, status, {"content-type": "text/html"}), ends))
    lies += [Lie(f"status {status}", _odd(status), ends) for status, ends in ODD_STATUSES.items()]
    for status in REDIRECTS:
        tell = refusing(status, {"location": METADATA})
        lies.append(Lie(f"status {status} to a metadata address", tell, (UpstreamError,)))
    for name, value in RETRY_AFTER.items():
        for status in (429, 503):
            tell = refusing(status, {"retry-after": value})
            lies.append(Lie(f"status {status} with a Retry-After of {name}", tell, STATUSES[status]))
    return lies


LIES: Mapping[str, Lie] = _all()
