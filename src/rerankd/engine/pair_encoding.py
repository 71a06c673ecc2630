"""A request becomes pairs of query and document, joined by hand with a checkpoint's own special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.pairwise import Pairs
from rerankd.engine.sequences import TokenSequence
from rerankd.engine.tokens import Layout, TextTokenizer, pair_layout
from rerankd.engine.truncation import Cut, query_capped
from rerankd.engine.windows import Reading, query_fits, reading
from rerankd.types import RerankRequest


class PairEncoding:
    """`chunks` is the model's own habit with long documents: 1 cuts them, None reads all of them in windows.

    `query_limit` is the most tokens that a query keeps, where the model's authors cap it; `cut` says what gives way where a
    pair is cut.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        layout: Layout,
        cut: Cut,
        max_length: int,
        *,
        chunks: int | None = 1,
        query_limit: int | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._layout = layout
        self._cut = cut
        self._max_length = max_length
        self._chunks = chunks
        self._query_limit = query_limit

    def __call__(self, request: RerankRequest) -> Pairs:
        wanted = reading(request, self._chunks)
        query, *documents = self._tokenizer.encode(
            [request.query, *(document.text for document in request.documents)], limit=self._read_at_most(wanted)
        )
        asked = query if self._query_limit is None else query[: self._query_limit]
        query_fits(request, len(query), self._query_limit or self._max_length)
        if wanted.chunks == 1:
            return self._cut_pairs(request, wanted, asked, documents, len(asked) < len(query))
        return self._windowed(request, wanted, asked, documents, len(asked) < len(query))

    def _read_at_most(self, wanted: Reading) -> int | None:
        """Tokens of a text beyond which nothing of it is looked at."""
        if wanted.chunks is None:
            return None if wanted.limit is None else max(self._max_length, wanted.limit)
        return self._max_length * wanted.chunks

    def _cut_pairs(
        self, request: RerankRequest, wanted: Reading, query: list[int], documents: Sequence[list[int]], query_cut: bool
    ) -> Pairs:
        windows, truncated = [], []
        for index, ids in enumerate(documents):
            length = len(ids) if wanted.limit is None else min(len(ids), wanted.limit)
            kept, room = self._cut(len(query), length, self._max_length, self._layout.special_tokens)
            query_fits(request, len(query), kept)
            query_cut = query_cut or kept < len(query)
            [(start, stop)], shortened = wanted.of(index, len(ids), room)
            if shortened:
                truncated.append(index)
            windows.append([self._layout.pair(query[:kept], ids[start:stop])])
        return Pairs(windows, truncated, query_cut)

    def _windowed(
        self, request: RerankRequest, wanted: Reading, query: list[int], documents: Sequence[list[int]], query_cut: bool
    ) -> Pairs:
        special = self._layout.special_tokens
        kept, _ = query_capped(len(query), self._max_length, self._max_length, special)
        query_fits(request, len(query), kept)
        windows: list[list[TokenSequence]] = []
        truncated = []
        for index, ids in enumerate(documents):
            spots, shortened = wanted.of(index, len(ids), self._max_length - special - kept)
            if shortened:
                truncated.append(index)
            windows.append([self._layout.pair(query[:kept], ids[start:stop]) for start, stop in spots])
        return Pairs(windows, truncated, query_cut or kept < len(query))


def own_pairs(checkpoint: Checkpoint, cut: Cut, max_length: int, *, token_types: int, **habits: Any) -> PairEncoding:
    """Pairs as the checkpoint's own tokenizer joins them, for a model that knows so many `token_types`.

    Raises `UnsupportedModel` where they cannot be joined by hand.
    """
    tokenizer_json = checkpoint.tokenizer_json()
    tokenizer = TextTokenizer(tokenizer_json)
    layout = pair_layout(tokenizer_json, tokenizer)
    fed = checkpoint.json("tokenizer_config.json").get("model_input_names")
    if token_types < 2 or (isinstance(fed, list) and "token_type_ids" not in fed):
        layout = layout.untyped()
    return PairEncoding(tokenizer, layout, cut, max_length, **habits)
