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
from uuid import uuid4

import msgspec

from rerankd.app import Application
from rerankd.dialects.fields import documents_of, query_of, top_n_of
from rerankd.engine.sources import name_of_source
from rerankd.errors import BadRequest
from rerankd.settings import Settings
from rerankd.types import Call, RerankRequest, RerankResponse


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

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """The seam that every Reranker has; `rank` and `arank` are easier to call."""
        return await self._application.reranker.rerank(request, call)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        return_documents: bool = True,
        return_embeddings: bool = False,
        timeout: float | None = None,
    ) -> RerankResponse:
        """The documents in order of relevance, best first; also works where an event loop is running already.

        `timeout` is in seconds. Raises a `RerankError`.
        """
        request = request_of(query, documents, top_n, return_documents, return_embeddings)
        if self._loop.is_closed():
            raise BadRequest("This Reranker is closed.")
        return asyncio.run_coroutine_threadsafe(self._rank(request, timeout), self._loop).result()

    async def arank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        return_documents: bool = True,
        return_embeddings: bool = False,
        timeout: float | None = None,
    ) -> RerankResponse:
        """As `rank`, awaited. Cancelling it cancels the work."""
        request = request_of(query, documents, top_n, return_documents, return_embeddings)
        if self._loop.is_closed():
            raise BadRequest("This Reranker is closed.")
        return await self._rank(request, timeout)

    async def _rank(self, request: RerankRequest, timeout: float | None) -> RerankResponse:
        request = msgspec.structs.replace(request, model=self.card.name)
        deadline = None if timeout is None else monotonic() + timeout
        return await self.rerank(request, Call(request_id=uuid4().hex, deadline=deadline, created=int(time())))

    def close(self) -> None:
        """Give memory and threads back; a second time it does nothing."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._application.close()

    def __enter__(self) -> Reranker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def request_of(
    query: str,
    documents: Sequence[str],
    top_n: int | None = None,
    return_documents: bool = True,
    return_embeddings: bool = False,
) -> RerankRequest:
    """A request from what a Python caller or a command line gives. Raises `BadRequest`, naming what is wrong."""
    if isinstance(documents, str | bytes) or not isinstance(documents, Iterable):
        raise BadRequest("`documents` must be a list of strings.", param="documents")
    texts = list(documents)
    for name, text in [("query", query), *((f"documents[{index}]", text) for index, text in enumerate(texts))]:
        _check_text(name, text)
    if top_n is not None and (isinstance(top_n, bool) or not isinstance(top_n, int)):
        raise BadRequest("`top_n` must be a whole number, or None for all documents.", param="top_n")
    return RerankRequest(
        query=query_of(query),
        documents=documents_of(texts),
        top_n=top_n_of(top_n),
        return_documents=return_documents,
        return_embeddings=return_embeddings,
    )


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise BadRequest(f"`{name}` must be a string, not {type(text).__name__}.", param=name)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRequest(f"`{name}` holds half of a surrogate pair, which is no character.", param=name) from None
