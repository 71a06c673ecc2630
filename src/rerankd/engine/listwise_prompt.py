"""jina-reranker-v3's prompt: many documents for one query, each with a marker behind it whose hidden state stands for it.

The model's own code tokenises the prompt as one text. Its markers and control tokens divide it into sections that a
tokenizer looks at one by one, so sections are what is tokenised here, and no control token is looked for in any of them: the
ids are the same, and a user's text can forge none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.engine.sequences import TokenSequence
from rerankd.engine.shortening import Shortened
from rerankd.errors import EngineError

DOCUMENT, QUERY = "<|embed_token|>", "<|rerank_token|>"
"""The markers behind each document and behind the query."""
ENDS = re.compile(r"(?<=>)")
"""Behind each character with which a marker's name can end; it holds that one nowhere else."""
START = (
    "<|im_start|>system\nYou are a search relevance expert who can determine a ranking of the passages based on how "
    "relevant they are to the query. If the query is a question, how relevant a passage is depends on how well it answers "
    "the question. If not, try to analyze the intent of the query and assess how well each passage satisfies the intent. If "
    "an instruction is provided, you should follow the instruction when determining the ranking.<|im_end|>\n<|im_start|>"
)
END = "\n</query><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
BEGINNINGS = ("", "a", " a", "  a", " \na", "?", ">", "1", "'s", "é", "\u0338", "你", "\u200b", "<", "\t")
"""Texts that show whether a tokenizer takes the beginning of a text together with the words before it."""


class ListwisePrompt:
    def __init__(self, tokenizer: PromptTokenizer) -> None:
        """Raises `UnsupportedModel` where the tokenizer lacks a token of the prompt."""
        self._tokenizer = tokenizer
        self._document, self._query = tokenizer.token(DOCUMENT), tokenizer.token(QUERY)
        tokenizer.token("<|im_start|>")
        self._start, self._end = tokenizer.template(START), tokenizer.template(END)
        self._joins = tokenizer.joins(_next(1), BEGINNINGS)

    def block(self, query: Shortened, instruction: str | None, documents: Sequence[Shortened]) -> TokenSequence:
        """A prompt of these texts, none of which names a marker; its taps are the documents' markers, then the query's."""
        sections = self._sections([*_leads(query.text, instruction, len(documents))], [*documents, query])
        marked = [identity for section in sections[:-1] for identity in (*section, self._document)]
        ids = [*self._start, *marked, *sections[-1], self._query, *self._end]
        return TokenSequence(ids, taps=self._markers(ids, len(documents)))

    def _sections(self, leads: Sequence[str], texts: Sequence[Shortened]) -> list[list[int]]:
        """The ids of each text behind its lead: joined where that is the same, else tokenised again."""
        known = [text.ids if self._joins and not text.text.startswith(("\n", "\r")) else None for text in texts]
        made = iter(
            self._tokenizer.texts(
                [
                    lead if ids is not None else lead + text.text
                    for lead, text, ids in zip(leads, texts, known, strict=True)
                ]
            )
        )
        return [[*next(made), *(ids or ())] for ids in known]

    def _markers(self, ids: Sequence[int], documents: int) -> tuple[int, ...]:
        """Where the markers are. Raises `EngineError` where they are not one a document, and the query's behind them."""
        found = tuple(place for place, identity in enumerate(ids) if identity in (self._document, self._query))
        if [ids[place] for place in found] != [*[self._document] * documents, self._query]:
            raise EngineError("The markers in the prompt are not those of its documents and its query.")
        return found


def sanitised(text: str) -> str:
    """`text` without the markers' names, nor any that appear when others are taken out.

    No two names overlap, so in which order they are taken out makes no difference.
    """
    if DOCUMENT not in text and QUERY not in text:
        return text
    kept: list[str] = []
    for part in ENDS.split(text):
        kept.extend(part)
        for name in (DOCUMENT, QUERY):
            if kept[-len(name) :] == [*name]:
                del kept[-len(name) :]
    return "".join(kept)


def _leads(query: str, instruction: str | None, documents: int) -> Iterator[str]:
    """What stands in each section before its text: one for each document, the last one for the query."""
    followed = f"<instruct>\n{instruction}\n</instruct>\n" if instruction else ""
    yield (
        f"user\nI will provide you with {documents} passages, each indicated by a numerical identifier. Rank the passages "
        f'based on their relevance to query: {query}\n{followed}<passage id="0">\n'
    )
    yield from map(_next, range(1, documents))
    yield "\n</passage>\n<query>\n"


def _next(index: int) -> str:
    return f'\n</passage>\n<passage id="{index}">\n'
