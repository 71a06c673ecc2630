"""How many tokens a text has, roughly and without any tokenizer, before a model has counted them and where none does; and
Cohere's unit of price where nobody counted it.

Each character counts by its script, which its first byte in UTF-8 tells. The weights lie between what Qwen3's tokenizer and
one of XLM-RoBERTa's kind make of the same paragraphs in twelve languages: in nine they are within about 20 % of either, in
Greek, Hindi and Thai within a factor of two, where these two tokenizers differ by more than that themselves.
"""

from __future__ import annotations

from math import ceil

from rerankd.types import RerankRequest, Usage

DOCUMENTS_OF_A_SEARCH_UNIT = 100
DIGIT, SIGN = 0.7, 0.55
WEIGHTS = (
    (0x00, 0.225),  # ASCII letters and blanks; digits and signs are put over them
    (0x80, 0.0),  # the bytes of a character after its first
    (0xC2, 0.8),  # Latin letters with accents
    (0xCE, 0.5),  # Greek
    (0xD0, 0.35),  # Cyrillic, Armenian
    (0xD6, 0.39),  # Hebrew, Arabic
    (0xE0, 0.56),  # the scripts of India, Thai, Lao
    (0xE1, 0.6),  # Vietnamese, Georgian, Khmer
    (0xE2, 0.9),  # dashes, quotes, signs
    (0xE3, 0.7),  # Japanese syllables, Chinese punctuation
    (0xE4, 0.74),  # Chinese characters
    (0xEA, 0.65),  # Korean
    (0xEE, 0.9),  # full-width forms
    (0xF0, 1.5),  # emoji and rare characters
)
"""From which first byte on a character weighs how much."""


def _weight(byte: int) -> float:
    if 0x30 <= byte <= 0x39:
        return DIGIT
    if 0x20 < byte < 0x7F and not chr(byte).isalpha():
        return SIGN
    return next(weight for start, weight in reversed(WEIGHTS) if byte >= start)


KINDS = sorted({_weight(byte) for byte in range(256)} - {0.0})
LIGHTEST = KINDS[0]
NONE = len(KINDS)
TABLE = bytes(KINDS.index(_weight(byte)) if _weight(byte) else NONE for byte in range(256))
"""The kind of each byte, so that a text is weighed by counting bytes, at a gigabyte a second."""
LIGHT = bytes(byte for byte in range(256) if TABLE[byte] == 0)
IN_ASCII = tuple((kind, KINDS[kind]) for kind in sorted(set(TABLE[:0x80])) if kind)
HEAVIER = tuple(enumerate(KINDS))[1:]
"""The kinds that are left when the lightest is taken out, with what they weigh: of ASCII only two."""


def estimated_tokens(text: str) -> int:
    """At least 1, for the blank that a model puts before a text."""
    return max(1, ceil(_weighed(text)))


def estimated_request(request: RerankRequest) -> int:
    """Tokens that a pairwise model is fed: the query once for each document."""
    return estimated_tokens(request.query) * len(request.documents) + _documents(request)


def _documents(request: RerankRequest) -> int:
    texts, most = [document.text for document in request.documents], request.max_tokens_per_doc
    if most is not None:
        return sum(min(estimated_tokens(text), most) for text in texts)
    return max(len(texts), ceil(_weighed("".join(texts))))  # each by itself would take several times as long


def _weighed(text: str) -> float:
    raw = text.encode("utf-8", "replace")
    kinds = raw.translate(TABLE, LIGHT)  # most bytes of most texts are of the lightest kind
    rest = 0.0
    for kind, weight in IN_ASCII if text.isascii() else HEAVIER:
        rest += weight * kinds.count(kind)
    return LIGHTEST * (len(raw) - len(kinds)) + rest


def search_units(usage: Usage, documents: int) -> int:
    """As they were counted, else one for each 100 documents."""
    return ceil(documents / DOCUMENTS_OF_A_SEARCH_UNIT) if usage.search_units is None else usage.search_units
