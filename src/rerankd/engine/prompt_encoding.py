"""A request becomes prompts of one document each: what stands before the document is the same for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rerankd.engine.pairwise import Pairs
from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.engine.sequences import SharedPrefix, TokenSequence
from rerankd.engine.shortening import shortened
from rerankd.engine.windows import query_fits, reading
from rerankd.errors import UnsupportedModel
from rerankd.types import RerankRequest

BEGINNINGS = ("", "a", " a", "  a", "\n", "\na", " \na", "?", ":", "1", "'s", "é", "\u0338", "你", "\u200b", "<", "\t")
"""Texts that show whether a tokenizer takes the beginning of a text together with what stands before it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands before and behind each document of a request, and how many of a document's tokens fit in between.

    `asked` are the tokens that the query takes with what belongs to it, `asked_room` those that it may take.
    """

    before: list[int]
    after: list[int]
    room: int
    asked: int
    asked_room: int


class Prompt(Protocol):
    """A family's template. `lead` are its words right before a document, and with `opening` a document's own begin: a
    blank in most, so that the two can be tokenised apart."""

    @property
    def lead(self) -> str: ...

    @property
    def opening(self) -> str: ...

    @property
    def max_length(self) -> int:
        """The most tokens that a prompt has, its template included."""
        ...

    @property
    def instructions(self) -> bool:
        """Whether it has a place for an instruction."""
        ...

    def around(self, query: str, instruction: str | None) -> Frame: ...


class PromptEncoding:
    """`instruction` is used where a request has none; without `reuse` every prompt is a sequence of its own."""

    def __init__(
        self,
        tokenizer: PromptTokenizer,
        prompt: Prompt,
        *,
        instruction: str | None = None,
        query_limit: int | None = None,
        reuse: bool = True,
    ) -> None:
        """Raises `UnsupportedModel` where documents cannot be tokenised apart from the words before them."""
        if not tokenizer.joins(prompt.lead, [prompt.opening + text for text in BEGINNINGS]):
            raise UnsupportedModel("The tokenizer takes a document together with the words before it.")
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._instruction = instruction
        self._query_limit = query_limit
        self._reuse = reuse

    def __call__(self, request: RerankRequest) -> Pairs:
        wanted = reading(request)
        query, query_cut = self._query(request)
        frame = self._prompt.around(query, self._instruction if request.instruction is None else request.instruction)
        query_fits(request, frame.asked, frame.asked_room)
        documents = self._tokenizer.texts(
            [self._prompt.opening + document.text for document in request.documents],
            self._prompt.max_length * (wanted.chunks or 1),
        )
        windows, truncated = [], []
        shared = SharedPrefix(frame.before) if self._reuse else None
        for index, ids in enumerate(documents):
            spots, cut = wanted.of(index, len(ids), frame.room)
            if cut:
                truncated.append(index)
            windows.append([_sequence(frame, shared, ids[start:stop]) for start, stop in spots])
        return Pairs(windows, truncated, query_cut or frame.asked > frame.asked_room)

    def _query(self, request: RerankRequest) -> tuple[str, bool]:
        """The query as far as the user's own limit, and whether that has cut it."""
        if self._query_limit is None:
            return request.query, False
        [ids] = self._tokenizer.texts([request.query], self._query_limit + 1)
        query_fits(request, len(ids), self._query_limit)
        kept = shortened(self._tokenizer, request.query, ids, self._query_limit)
        return kept.text, kept.cut


def _sequence(frame: Frame, shared: SharedPrefix | None, document: Sequence[int]) -> TokenSequence:
    """The last token is where the model says what it thinks."""
    ids = [*document, *frame.after]
    return TokenSequence(ids if shared else [*frame.before, *ids], taps=(-1,), prefix=shared)
