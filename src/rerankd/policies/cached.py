"""A reranker that does not compute again what it computed before: what it remembers equals what it would compute.

Every answer is kept whole, and found again by the same request, whatever its `top_n`. A pairwise model's answer is kept pair
by pair as well, so that of a request which shares documents with earlier ones only the others are asked for. What it kept of
one model or channel never stands beside another's. Answers with warnings are kept whole alone: a warning may name documents
by their index, or count them, and is right for that request only.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate, pairwise
from typing import TypeVar

import msgspec

from rerankd.errors import ClientError
from rerankd.policies.parts import part_of, usage_of
from rerankd.policies.score_store import ScoreStore
from rerankd.reranker import Reranker
from rerankd.types import Call, Notes, RerankRequest, RerankResponse, Result, Usage

Kept = TypeVar("Kept")


class Whole(msgspec.Struct, frozen=True, array_like=True):
    """An answer: the results as two columns, which is a fifth of their size."""

    model: str
    channel: str | None
    indexes: tuple[int, ...]
    scores: tuple[float, ...]
    usage: Usage
    warnings: tuple[str, ...]


class Pair(msgspec.Struct, frozen=True, array_like=True):
    """One document's score, whose it is, and its share of the tokens; `estimated` where others had a share, too."""

    score: float
    model: str
    channel: str | None
    tokens: int
    estimated: bool

    @property
    def usage(self) -> Usage:
        return Usage(prompt_tokens=self.tokens, cached_tokens=self.tokens, estimated=self.estimated)


class Cached:
    """`identity` is all that a score depends on beside the request, and the name under which answers go out: the model's
    revision, its number format, template, limits and scale. `pairwise` says that a document's score depends on its text, the
    query and the options alone. What is kept is kept for `ttl` seconds, or for good.

    A request for embeddings goes through. `top_n` and `return_documents` are not handed on; who stands outside sees to them.
    """

    def __init__(self, inner: Reranker, store: ScoreStore, *, identity: str, pairwise: bool, ttl: float | None) -> None:
        self._inner = inner
        self._store = store
        self._identity = identity
        self._pairwise = pairwise
        self._ttl = ttl

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        keys = None if request.return_embeddings or not request.documents else self._keys(request)
        if keys is None:
            return await self._inner.rerank(request, call)
        known = await self._store.get(call.owner, keys if self._pairwise else keys[:1])
        whole = _read(known[0], Whole)
        if whole is not None:
            return _recalled(whole, call.notes)
        pairs = _of_one_source([_read(value, Pair) for value in known[1:]])
        if not any(pairs):
            return await self._computed(request, keys, call)
        return await self._completed(request, keys, pairs, call)

    async def _computed(self, request: RerankRequest, keys: Sequence[bytes], call: Call) -> RerankResponse:
        answer = await self._inner.rerank(part_of(request, range(len(request.documents))), call)
        entries = {keys[0]: _written(answer, call.notes.channel)}
        if self._pairwise:
            entries |= _pairs(answer, request, keys[1:], call.notes.channel)
        await self._store.put(call.owner, entries, self._ttl)
        return answer

    async def _completed(
        self, request: RerankRequest, keys: Sequence[bytes], pairs: Sequence[Pair | None], call: Call
    ) -> RerankResponse:
        """Asks for the documents without a pair; for all of them, where what comes does not go with the others."""
        missing = [index for index, pair in enumerate(pairs) if pair is None]
        known = {index: pair for index, pair in enumerate(pairs) if pair is not None}
        if not missing:
            call.notes.cached, call.notes.channel = True, known[0].channel
            return _answer(known, [])
        part = part_of(request, missing)
        try:
            rest = await self._inner.rerank(part, call)
        except ClientError:  # it may name a document by its index
            return await self._computed(request, keys, call)
        entries = _pairs(rest, part, [keys[1 + index] for index in missing], call.notes.channel)
        await self._store.put(call.owner, entries, self._ttl)
        source = next(iter(known.values()))
        if not entries or (rest.model, call.notes.channel) != (source.model, source.channel):
            return await self._computed(request, keys, call)
        return _answer(known, [(missing[result.index], result.relevance_score) for result in rest.results], rest.usage)

    def _keys(self, request: RerankRequest) -> list[bytes] | None:
        """The whole request's, and then each document's; None where it holds what has no bytes, such as half a character."""
        options = (
            self._identity,
            self._pairwise,
            request.instruction,
            request.max_tokens_per_doc,
            request.max_chunks_per_doc,
            request.overlap_tokens,
            request.truncation,
            request.raw_scores,
            request.query,
        )
        try:
            asked = sha256(msgspec.msgpack.encode(options)).digest()
            if not self._pairwise:  # an upstream may be sent more of a document than its text, and may read it
                return [_with(asked, msgspec.msgpack.encode(request.documents))]
            pairs = [_with(asked, document.text.encode()) for document in request.documents]
        except (OverflowError, UnicodeEncodeError):
            return None
        return [_with(asked, b"all" + b"".join(pairs)), *pairs]


def _with(asked: bytes, content: bytes) -> bytes:
    return sha256(asked + content).digest()


def _read(value: bytes | None, kind: type[Kept]) -> Kept | None:
    """None for what cannot be read, too: a store may be shared with another version of rerankd."""
    try:
        return None if value is None else msgspec.msgpack.decode(value, type=kind)
    except msgspec.MsgspecError:
        return None


def _written(answer: RerankResponse, channel: str | None) -> bytes:
    indexes = tuple(result.index for result in answer.results)
    scores = tuple(result.relevance_score for result in answer.results)
    return msgspec.msgpack.encode(Whole(answer.model, channel, indexes, scores, answer.usage, answer.warnings))


def _recalled(whole: Whole, notes: Notes) -> RerankResponse:
    notes.cached, notes.channel = True, whole.channel
    return RerankResponse(
        model=whole.model,
        results=tuple(map(Result, whole.indexes, whole.scores)),
        usage=msgspec.structs.replace(whole.usage, cached_tokens=whole.usage.prompt_tokens),
        warnings=whole.warnings,
    )


def _pairs(
    answer: RerankResponse, request: RerankRequest, keys: Sequence[bytes], channel: str | None
) -> dict[bytes, bytes]:
    """None, where the answer has warnings or does not hold each document once."""
    if answer.warnings or sorted(result.index for result in answer.results) != list(range(len(keys))):
        return {}
    tokens = shares(answer.usage.prompt_tokens, request)
    estimated = answer.usage.estimated or len(keys) > 1
    return {
        keys[result.index]: msgspec.msgpack.encode(
            Pair(result.relevance_score, answer.model, channel, tokens[result.index], estimated)
        )
        for result in answer.results
    }


def shares(total: int, request: RerankRequest) -> list[int]:
    """`total` tokens dealt out to the documents by the length of each with the query; they add up to it exactly.

    Answers count the tokens of all documents together, so this is an estimate, and called one.
    """
    lengths = [len(request.query) + len(document.text) + 1 for document in request.documents]
    ends = list(accumulate(lengths))
    return [end - start for start, end in pairwise([0, *(total * end // ends[-1] for end in ends)])]


def _of_one_source(pairs: Sequence[Pair | None]) -> list[Pair | None]:
    """Those of the model and channel that the first is of; the others count as missing."""
    source = next(((pair.model, pair.channel) for pair in pairs if pair is not None), None)
    return [pair if pair is not None and (pair.model, pair.channel) == source else None for pair in pairs]


def _answer(known: dict[int, Pair], rest: Sequence[tuple[int, float]], *usage: Usage) -> RerankResponse:
    """`known` pairs and the `rest` by document, in the order of the request."""
    scores = {index: pair.score for index, pair in known.items()} | dict(rest)
    return RerankResponse(
        model=next(iter(known.values())).model,
        results=tuple(Result(index, scores[index]) for index in sorted(scores)),
        usage=usage_of([*usage, *(pair.usage for pair in known.values())]),
    )
