"""A pairwise model for tests: what it says of a pair depends on the pair and the options alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from rerankd.errors import BadRequest
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage

LIMIT = 8
"""Characters, and tokens, of a document that are read."""


class PairModel:
    """`asked` has the texts of each call."""

    def __init__(self, name: str = "pairs", channel: str = "local") -> None:
        self.name = name
        self.channel = channel
        self.asked: list[list[str]] = []
        self.requests: list[RerankRequest] = []

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self.asked.append(texts(request))
        self.requests.append(request)
        await asyncio.sleep(0)
        call.notes.channel = self.channel
        call.notes.attempts += 1
        cut = [index for index, document in enumerate(request.documents) if len(document.text) > LIMIT]
        if cut and not request.truncation:
            raise BadRequest(f"documents[{cut[0]}] is too long.", param=f"documents[{cut[0]}]")
        return RerankResponse(
            model=self.name,
            results=tuple(
                Result(index, self.score(request, document.text)) for index, document in enumerate(request.documents)
            ),
            usage=Usage(prompt_tokens=sum(tokens(request.query, text) for text in texts(request)), search_units=1),
            warnings=(f"{len(cut)} of {len(request.documents)} documents cut to {LIMIT}: {cut}",) if cut else (),
        )

    def score(self, request: RerankRequest, text: str) -> float:
        options = (request.instruction, request.max_tokens_per_doc, request.raw_scores)
        digest = sha256(repr((self.name, request.query, text[:LIMIT], options)).encode()).digest()
        return int.from_bytes(digest[:7], "big") / 3**30 - (1e6 if request.raw_scores else 0)


def tokens(query: str, text: str) -> int:
    return len(query) + min(LIMIT, len(text)) + 3


def texts(request: RerankRequest) -> list[str]:
    return [document.text for document in request.documents]


def asking(documents: Sequence[str], query: str = "q") -> RerankRequest:
    return RerankRequest(query=query, documents=tuple(map(Document, documents)))
