"""How well a WordPiece model knows a text, read off its own vocabulary: 1 is English to MiniLM, 0.4 Spanish, 0 Chinese.

A model was trained on what its vocabulary was made from: where it has words whole it knows them, and where it must spell
them it does not. There is no list of languages here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

FLUENT = 0.9
"""The share of words that are whole entries of the vocabulary in ordinary English (measured: .898 of XQuAD's)."""
FOREIGN = 0.25
"""The share that names and numbers alone give where the vocabulary must spell (from Chinese .03 to Turkish .23)."""
PRIOR_WORDS = 10
COMMON = 100
"""The rank at which a word has lost half of its worth: the first hundred are function words."""
CONTINUES = "##"
UNKNOWN = "[UNK]"
COMMONEST = "the"


class Known(NamedTuple):
    """Words that are one entry of the vocabulary and have two letters or more, and all words."""

    whole: int
    words: int


class Vocabulary:
    """`ids` maps a WordPiece vocabulary's pieces to their ids, which are in order of frequency from "the" on."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids
        self._commonest = ids.get(COMMONEST, 0)
        self._continuing = {number for piece, number in ids.items() if piece.startswith(CONTINUES)}
        self._starting = {number for piece, number in ids.items() if piece[:1].isalnum() or piece == UNKNOWN}
        self._wordlike = {number for piece, number in ids.items() if piece[:1].isalnum() and len(piece) > 1}

    def known(self, ids: Sequence[int]) -> Known:
        """What a text's ids tell of its words."""
        whole = words = 0
        for number, after in zip(ids, [*ids[1:], -1], strict=True):
            if number in self._starting:
                words += 1
                whole += number in self._wordlike and after not in self._continuing
        return Known(whole, words)

    def worth(self, word: str, fluency: float) -> float:
        """What a query's word counts: function words little, as far as the vocabulary's order can be believed here."""
        rank = self._ids.get(word, -1) - self._commonest + 1
        return 1.0 - fluency * COMMON / (rank + COMMON) if rank > 0 else 1.0


def fluency(query: Known, documents: Sequence[Known]) -> float:
    """From 0 to 1, for query and documents together: the lower of the two, since a cosine needs both.

    A query has few words to judge by, so it is taken to be like its documents until PRIOR_WORDS words have spoken.
    """
    words = sum(document.words for document in documents)
    share = sum(document.whole for document in documents) / words if words else 0.0
    asked = (query.whole + PRIOR_WORDS * share) / (query.words + PRIOR_WORDS)
    return min(_scaled(share), _scaled(asked))


def _scaled(share: float) -> float:
    return min(1.0, max(0.0, (share - FOREIGN) / (FLUENT - FOREIGN)))
