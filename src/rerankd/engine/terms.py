"""Text to the terms that BM25 counts, in any script and without a list of languages.

Words, and their letter trigrams, by which inflected forms still meet; where words stand without blanks between them, pairs
of characters. Measured in docs/quality.md: trigrams lift BM25's MRR@10 on Turkish XQuAD from .876 to .939, on English from
.949 to .963.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Thai and Lao, Myanmar, Khmer, kana, Han."""

# re's \w leaves out combining marks, and with them the vowels of Hindi: adding them lifts BM25 there from .747 to .933.
MARKS = "".join(
    character for character in map(chr, range(0x300, 0x11000)) if unicodedata.category(character) in ("Mn", "Mc")
)
RUNS = re.compile(rf"([{UNSPACED}]+)|((?:(?![{UNSPACED}])[\w{MARKS}])+)")
ARABIC_POINTS = re.compile("[\u0640\u064b-\u065f\u0670]")
"""Vowel signs, which a writer may leave out, and the stroke that stretches a word."""

GRAM = "~"
WORD_START = "^"


class Term(NamedTuple):
    """What is counted, and the word it comes from; `word` is empty where there are no words.

    A trigram begins with `~`, which no word does; in it `^` stands before a word's first letter.
    """

    text: str
    word: str

    @property
    def is_gram(self) -> bool:
        return self.text.startswith(GRAM)


def terms(text: str) -> list[Term]:
    found: list[Term] = []
    plain = ARABIC_POINTS.sub("", unicodedata.normalize("NFKC", text).casefold())
    for unspaced, word in RUNS.findall(plain):
        if unspaced:
            found.extend(Term(unspaced[start : start + 2], "") for start in range(max(1, len(unspaced) - 1)))
        else:
            found.append(Term(word, word))
            found.extend(_grams(word))
    return found


def _grams(word: str) -> list[Term]:
    if len(word) < 3:
        return []
    marked = WORD_START + word
    return [Term(GRAM + marked[start : start + 3], word) for start in range(len(word) - 1)]
