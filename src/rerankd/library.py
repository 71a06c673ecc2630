"""The Python face: a Reranker that a person constructs, with blocking and awaitable `rank`.

It is what the server serves, without HTTP: the same models, the same pipeline, the same errors.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic, time
from types import TracebackType
from typing import Self, TypedDict, Unpack
from uuid import uuid4

import msgspec

from rerankd.app import Application
from rerankd.dialects.decoding import convert
from rerankd.dialects.fields import EXPECTED
from rerankd.dialects.root_request import RootRequest, parse
from rerankd.engine.sources import name_of_source
from rerankd.errors import BadRequest
from rerankd.settings import Settings
from rerankd.types import Call, Priority, RerankRequest, RerankResponse

LAST_WORD = 1.0
"""Seconds in which those who still wait when a Reranker is closed hear that they are refused."""


class RankOptions(TypedDict, total=False):
    """What `rank` and `arank` take by keyword, None being absent; docs/http.md says what each does."""

    top_n: int | None
    return_documents: bool | None
    """True unless said otherwise."""
    return_embeddings: bool | None
    instruction: str | None
    max_tokens_per_doc: int | None
    max_chunks_per_doc: int | None
    overlap_tokens: int | None
    truncation: bool | None
    """True unless said otherwise."""
    raw_scores: bool | None
    priority: Priority | None


class Reranker:
    """A model, loaded. Use it in a `with` block, or `close` it, to give its memory and threads back.

    `model` is `builtin`, `lexical`, a folder, a Hugging Face id or `modelscope:ID`. Raises `LoadError`.
    """

    def __init__(
        self,
        model: str | Path = "builtin",
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_length: int | None = None,
    ) -> None:
        source = str(model)
        spec = {"name": name_of_source(source), "source": source, "device": device, "dtype": dtype}
        self._application = Application(Settings.parse({"models": [{**spec, "max_length": max_length}]}))
        self.card = self._application.catalog.cards[0]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rerankd-loop", daemon=True)
        self._thread.start()
        self._open = threading.Lock()
        self._closed = False

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """The seam that every Reranker has; `rank` and `arank` are easier to call."""
        return await self._application.reranker.rerank(request, call)

    def rank(
        self, query: str, documents: Sequence[str], *, timeout: float | None = None, **options: Unpack[RankOptions]
    ) -> RerankResponse:
        """The documents in order of relevance, best first; also works where an event loop is running already.

        `timeout` is in seconds; the options are `top_n`, `return_documents`, `return_embeddings`, `instruction`,
        `max_tokens_per_doc`, `max_chunks_per_doc`, `overlap_tokens`, `truncation`, `raw_scores` and `priority`. Raises a
        `RerankError`.
        """
        request = request_of(query, documents, **options)
        with self._open:
            self._check_open()
            ranking = asyncio.run_coroutine_threadsafe(self._rank(request, timeout), self._loop)
        return ranking.result()

    async def arank(
        self, query: str, documents: Sequence[str], *, timeout: float | None = None, **options: Unpack[RankOptions]
    ) -> RerankResponse:
        """As `rank`, awaited. Cancelling it cancels the work."""
        request = request_of(query, documents, **options)
        self._check_open()
        return await self._rank(request, timeout)

    async def _rank(self, request: RerankRequest, timeout: float | None) -> RerankResponse:
        request = msgspec.structs.replace(request, model=self.card.name)
        deadline = None if timeout is None else monotonic() + timeout
        return await self.rerank(request, Call(request_id=uuid4().hex, deadline=deadline, created=int(time())))

    def close(self) -> None:
        """Give memory and threads back; whoever still waits is refused. A second time it does nothing."""
        with self._open:
            if self._closed:
                return
            self._closed = True
        self._application.close()
        asyncio.run_coroutine_threadsafe(_everybody_has_left(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _check_open(self) -> None:
        if self._closed:
            raise BadRequest("This Reranker is closed.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _everybody_has_left() -> None:
    """Those who wait on this loop have been refused by now, and need it once more to hear of it."""
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=LAST_WORD)
        for task in late:
            task.cancel()


def request_of(query: str, documents: Sequence[str], **options: Unpack[RankOptions]) -> RerankRequest:
    """A request from what a Python caller or a command line gives, by the rules that a body is read by.

    Raises `BadRequest`, naming what is wrong, and `TypeError` for an option that there is not.
    """
    unknown = options.keys() - RankOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"rank() got an unexpected keyword argument {min(unknown)!r}")
    if isinstance(documents, str | bytes) or not isinstance(documents, Iterable):
        raise BadRequest("`documents` must be a list of strings.", param="documents")
    fields = convert(options, RootRequest, EXPECTED)
    fields.query, fields.documents = query, list(documents)
    texts = [("query", query), *((f"documents[{index}]", text) for index, text in enumerate(fields.documents))]
    for name, text in [*texts, ("instruction", fields.instruction or "")]:
        _check_text(name, text)
    return parse(fields, return_documents=True)


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise BadRequest(f"`{name}` must be a string, not {type(text).__name__}.", param=name)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRequest(f"`{name}` holds half of a surrogate pair, which is no character.", param=name) from None
