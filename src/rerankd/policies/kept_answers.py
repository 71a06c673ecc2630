"""An answer as it is kept for a repeated request: indexes, scores, usage and warnings, and no text of the request.

Who asks again sends the texts again; they come back from there. So what is kept tells nothing to whoever reads it without
the request.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rerankd.errors import Conflict
from rerankd.types import Call, Notes, RerankRequest, RerankResponse, Result, Usage

MOST_KEPT = 4 * 2**20
"""Bytes of one answer; embeddings alone can make it larger."""
MOST_WARNED = 4000
"""Characters of all warnings together, which is more than our own ever have."""
QUOTED = 12
"""Of a warning that shares `2 * QUOTED - 1` characters with a text of the request this is sure to be found out."""
WORD = 8
"""A text of the request that is at least so long is found out wherever a warning has all of it."""
WITHHELD = "a warning of the first answer is not repeated: it quoted the request"
TOO_LARGE = b""


class Kept(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The tag is the number of the format. The results are columns, which is a fifth of their size."""

    request_id: str
    created: int
    model: str
    channel: str | None
    indexes: tuple[int, ...]
    scores: tuple[int | float, ...]
    embeddings: tuple[tuple[int | float, ...] | None, ...]
    usage: Usage
    warnings: tuple[str, ...]


def written(request: RerankRequest, response: RerankResponse, call: Call) -> bytes:
    """`TOO_LARGE` in the place of what is."""
    embeddings = tuple(result.embedding for result in response.results)
    kept = msgspec.msgpack.encode(
        Kept(
            request_id=call.request_id,
            created=call.created,
            model=response.model,
            channel=call.notes.channel,
            indexes=tuple(result.index for result in response.results),
            scores=tuple(result.relevance_score for result in response.results),
            embeddings=embeddings if any(one is not None for one in embeddings) else (),
            usage=response.usage,
            warnings=_without_quotes(response.warnings, request),
        )
    )
    return kept if len(kept) <= MOST_KEPT else TOO_LARGE


def recalled(kept: bytes, request: RerankRequest, notes: Notes) -> RerankResponse:
    """The answer as it was, with the texts of `request`, which must be the one that was answered.

    Raises `Conflict` where it was too large to be kept, or was kept by a version of rerankd that this one does not read.
    """
    if kept == TOO_LARGE:
        raise Conflict(
            f"The request under this Idempotency-Key was answered, but the answer was larger than the {MOST_KEPT >> 20} MiB "
            "that are kept; to have it worked on again, send another key."
        )
    try:
        answer = msgspec.msgpack.decode(kept, type=Kept)
    except msgspec.MsgspecError:
        raise Conflict(
            "The answer under this Idempotency-Key was kept by another version of rerankd, which cannot be read here; to "
            "have the request worked on again, send another key."
        ) from None
    notes.replayed, notes.channel, notes.first_given = True, answer.channel, (answer.request_id, answer.created)
    return RerankResponse(
        model=answer.model, results=_results(answer, request), usage=answer.usage, warnings=answer.warnings
    )


def _results(answer: Kept, request: RerankRequest) -> tuple[Result, ...]:
    embeddings = answer.embeddings or (None,) * len(answer.indexes)
    return tuple(
        Result(index, score, request.documents[index] if request.return_documents else None, embedding)
        for index, score, embedding in zip(answer.indexes, answer.scores, embeddings, strict=True)
    )


def _without_quotes(warnings: tuple[str, ...], request: RerankRequest) -> tuple[str, ...]:
    """Ours name fields and indexes; an upstream's, which are handed on, may hold anything."""
    if sum(map(len, warnings)) > MOST_WARNED:
        return (WITHHELD,)
    texts = (request.query, request.instruction or "", *(document.text for document in request.documents))
    return tuple(WITHHELD if warnings and _quotes(warning, texts) else warning for warning in warnings)


def _quotes(warning: str, texts: Iterable[str]) -> bool:
    """What is shared and long enough holds a whole one of the warning's pieces, wherever it begins."""
    pieces = [warning[start : start + QUOTED] for start in range(0, len(warning) - QUOTED + 1, QUOTED)]
    return any((len(text) >= WORD and text in warning) or any(piece in text for piece in pieces) for text in texts)
