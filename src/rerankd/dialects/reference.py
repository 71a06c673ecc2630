"""docs/dialects.md, written from the codecs themselves: `python -m rerankd.dialects.reference > docs/dialects.md`.

What it says of a format is what the format's codec does with an example; nothing in it is written by hand but the frame.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from rerankd.dialects.base import Called, Dialect
from rerankd.dialects.directory import CALLED, DIALECTS
from rerankd.dialects.fields import EXAMPLE_REQUEST
from rerankd.errors import BadRequest
from rerankd.types import Call, RerankRequest, RerankResponse, Result, Usage

HEAD = """# Wire formats

This page is written from the codecs by `python -m rerankd.dialects.reference`; a test fails where it is stale.

A path decides the format, so that a client needs its base URL changed and nothing else. Everywhere `null` means absent,
"true" and "3" in strings are read as what they say, `top_n` 0 means all documents and more than there are means all of them,
fields that a format does not have are passed over (or refused with 422 on the paths of `server.strict`), results come in
order of score, best first, ties by index, and scores stand as the model gives them: no second sigmoid, no stretching.
Nothing that was asked for is dropped in silence: what the model or the format cannot do is named in `x-rerankd-warning`.

| format | served at | documents by default | too long for the model | scores |
|---|---|---|---|---|
"""
FOOT = """On `/rerank` and under `/llamacpp` a body with `texts` is answered as TEI; on `/rerank` one with Pinecone's
headers as Pinecone. Where an SDK adds `/v1` to a base URL that ends in it, `/v1/v1/rerank` and `/v1/v2/rerank` are served
too, at the root and under every prefix, and a warning says so. `GET /v1/models` and `GET /v1/models/NAME` and `GET /health`
are at the root and under every prefix; so are, under their own, Xinference's `GET /v1/cluster/auth` (which needs no key, and
says whether one is needed) and TEI's `GET /info`."""
ANSWER = RerankResponse(
    model="builtin",
    results=(Result(1, 0.875), Result(2, 0.125), Result(0, 0.0625)),
    usage=Usage(prompt_tokens=42, search_units=1),
)
OPTIONS = (
    "return_documents",
    "return_text",
    "return_input",
    "truncate",
    "truncation",
    "truncate_prompt_tokens",
    "raw_scores",
)
AN_ERROR = BadRequest("`top_n` must be a whole number, not a string.", param="top_n")
CALL = Call("3f2a", created=1_767_225_600)


def page() -> str:
    lines = [HEAD.rstrip("\n")]
    lines += [_row(dialect) for dialect in DIALECTS.values()]
    lines += ["", FOOT]
    for dialect in DIALECTS.values():
        lines += ["", *_section(dialect)]
    lines += ["", "## Called only", "", "Formats that channels speak to upstreams and that clients are not served in."]
    for name in CALLED:
        if name not in DIALECTS:
            lines += ["", *_called(CALLED[name])]
    return "\n".join(lines) + "\n"


def _row(dialect: Dialect) -> str:
    least = _least(dialect)
    scores = {None: "the model's own", True: "logits", False: "probabilities"}[least.raw_scores]
    return (
        f"| {dialect.title} | {', '.join(f'`{path}`' for path in _served_at(dialect))} "
        f"| {'yes' if least.return_documents else 'no'} | {'cut' if least.truncation else 'an error'} | {scores} |"
    )


def _section(dialect: Dialect) -> Iterator[str]:
    kind, _ = dialect.schemas()
    asked = msgspec.structs.replace(EXAMPLE_REQUEST, top_n=3, return_documents=False)
    yield f"## {dialect.title}"
    yield ""
    fields = _names(field.encode_name for field in msgspec.structs.fields(kind))
    yield f'`dialect = "{dialect.name}"` in a channel. Fields read: {fields}.'
    if dialect.default_model:
        yield f"Without `model`: the configured default, else `{dialect.default_model}` where that is served."
    yield ""
    yield f"Not carried in a request: {_names(_plain(dialect.request_losses))}."
    yield f"Not carried in an answer: {_names(_plain(dialect.response_losses))}."
    yield ""
    yield "```text"
    yield f"POST {_served_at(dialect)[0]}"
    yield _shown(dialect.render_request(EXAMPLE_REQUEST))
    yield ""
    yield "200"
    yield from (f"{name}: {value}" for name, value in dialect.response_headers(ANSWER, asked, CALL).items())
    yield _shown(dialect.render_response(ANSWER, asked, CALL))
    yield ""
    status, body = dialect.render_error(AN_ERROR, CALL.request_id)
    yield str(status)
    yield _shown(body)
    yield "```"


def _called(dialect: Called) -> Iterator[str]:
    yield f"### {dialect.title}"
    yield ""
    yield f'`dialect = "{dialect.name}"`. Not carried in a request: {_names(_plain(dialect.request_losses))}.'
    yield ""
    yield "```text"
    yield f"POST {dialect.paths[0]}"
    yield _shown(dialect.render_request(EXAMPLE_REQUEST))
    yield "```"


def _served_at(dialect: Dialect) -> list[str]:
    if dialect.name == "cohere_v2":
        return ["/v2/rerank", *(f"/{dialect.prefix}{path}" for path in dialect.paths)]
    return [f"/{dialect.prefix}{path}" if dialect.prefix else path for path in dialect.paths]


def _least(dialect: Dialect) -> RerankRequest:
    """A request that says nothing but what to rank."""
    body: dict[str, Any] = json.loads(dialect.render_request(EXAMPLE_REQUEST))
    return dialect.parse_request(json.dumps(_without_options(body)).encode())


def _without_options(body: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_options(value) if isinstance(value, dict) else value
        for name, value in body.items()
        if name not in OPTIONS
    }


def _plain(losses: Iterable[str]) -> list[str]:
    """`unread` is ours, and no field of any format."""
    return sorted(name for name in losses if name != "unread")


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


def _shown(body: bytes) -> str:
    return json.dumps(json.loads(body), ensure_ascii=False) if body else "(an empty body)"


if __name__ == "__main__":
    sys.stdout.write(page())
