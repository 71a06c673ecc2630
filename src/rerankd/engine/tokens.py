"""Text to ids, once per text, and never to a control token: ids are joined by hand with the model's own special tokens.

The query is tokenised once per request and each document once, and the joined ids equal the tokenizer's own pair
encoding (checked when a model is loaded). Two things would let a text forge a separator, and both are closed here: special
added tokens, which are not looked for in a text, and control tokens that are ordinary pieces of the vocabulary (XLM-R's
holds `</s>`), which are renamed to something that no text can contain.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenizers import Tokenizer

from rerankd.engine.sequences import TokenSequence
from rerankd.errors import UnsupportedModel

PROBES = (("how many people live in Berlin", "3.5 million"), ("a", "b"), ("你好", ""))
CHARACTERS_PER_TOKEN = 8
BOUNDARY_TOKENS = 128
"""A cut text's last ids may differ from those of the whole text; this many are never used."""


class TextTokenizer:
    """A checkpoint's tokenizer without its special tokens."""

    def __init__(self, tokenizer_json: str) -> None:
        """Raises `UnsupportedModel` where an added token would get another id than the file states."""
        description = _without_controls(json.loads(tokenizer_json))
        self._tokenizer = Tokenizer.from_str(json.dumps(description))
        self._tokenizer.encode_special_tokens = True
        for token in description["added_tokens"]:
            if self._tokenizer.token_to_id(token["content"]) != token["id"]:
                raise UnsupportedModel(f"The tokenizer states an id for {token['content']} that cannot be kept.")

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        """The ids of each text, exact as far as `limit` ids; a longer text may lose ids beyond it, never before."""
        if limit is None:
            return self._ids(texts)
        ids = self._ids([self._head(text, limit) for text in texts])
        for index, text in enumerate(texts):
            characters = (limit + BOUNDARY_TOKENS) * CHARACTERS_PER_TOKEN
            while len(ids[index]) < limit + BOUNDARY_TOKENS and characters < len(text):
                characters *= 4
                ids[index] = self._ids([text[:characters]])[0]
        return ids

    def vocabulary(self) -> dict[str, int]:
        """The vocabulary's pieces and their ids, control tokens under names that no text can hold."""
        return dict(self._tokenizer.get_vocab(with_added_tokens=False))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _head(self, text: str, limit: int) -> str:
        return text[: (limit + BOUNDARY_TOKENS) * CHARACTERS_PER_TOKEN]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a checkpoint's special tokens go: `prefix` text `suffix`, or `prefix` query `middle` document `suffix`."""

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    types: tuple[int, int, int, int, int]
    """The token types of prefix, query, middle, document and suffix."""

    @property
    def special_tokens(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    def untyped(self) -> Layout:
        """The same for a model that knows one token type, or none."""
        return replace(self, types=(0, 0, 0, 0, 0))

    def pair(self, query: list[int], document: list[int]) -> TokenSequence:
        parts = (self.prefix, query, self.middle, document, self.suffix)
        types = [kind for part, kind in zip(parts, self.types, strict=True) for _ in part]
        return TokenSequence([*self.prefix, *query, *self.middle, *document, *self.suffix], types)

    def single(self, text: list[int]) -> TokenSequence:
        ids = [*self.prefix, *text, *self.suffix]
        return TokenSequence(ids, [self.types[0]] * len(ids))


def pair_layout(tokenizer_json: str, text: TextTokenizer) -> Layout:
    """The layout by which the checkpoint's own tokenizer joins a pair, found by looking at what it does.

    Raises `UnsupportedModel` where joining by hand cannot give the tokenizer's own ids.
    """
    whole = _whole(tokenizer_json)
    query, document = text.encode(PROBES[0])
    encoded = whole.encode(*PROBES[0])
    first = _find(encoded.ids, query, 0)
    second = _find(encoded.ids, document, first + len(query))
    after = second + len(document)
    spots = [0, first, first + len(query), second, after]
    types = [encoded.type_ids[spot] if spot < len(encoded.ids) else 0 for spot in spots]
    layout = Layout(
        prefix=tuple(encoded.ids[:first]),
        middle=tuple(encoded.ids[first + len(query) : second]),
        suffix=tuple(encoded.ids[after:]),
        types=(types[0], types[1], types[2], types[3], types[4]),
    )
    for probe in PROBES:
        joined = layout.pair(*text.encode(probe))
        expected = whole.encode_batch([probe])[0]
        if (joined.ids, joined.types) != (expected.ids, expected.type_ids):
            raise _unjoinable()
    return layout


def single_layout(tokenizer_json: str, text: TextTokenizer) -> Layout:
    """The layout of one text alone; its `middle` is empty. Raises `UnsupportedModel` as `pair_layout` does."""
    probe = PROBES[0][0]
    ids = text.encode([probe])[0]
    encoded = _whole(tokenizer_json).encode(probe)
    first = _find(encoded.ids, ids, 0)
    return Layout(tuple(encoded.ids[:first]), (), tuple(encoded.ids[first + len(ids) :]), (0, 0, 0, 0, 0))


def _whole(tokenizer_json: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _find(ids: list[int], part: list[int], since: int) -> int:
    for start in range(since, len(ids) - len(part) + 1):
        if ids[start : start + len(part)] == part:
            return start
    raise _unjoinable()


def _unjoinable() -> UnsupportedModel:
    return UnsupportedModel("The tokenizer joins query and document in a way that rerankd cannot repeat by hand.")


def _without_controls(description: dict[str, Any]) -> dict[str, Any]:
    """No piece is a control token. Added tokens that are no pieces stay, so that those behind them keep their ids."""
    added = description.get("added_tokens") or []
    controls = {token["content"] for token in added if token.get("special")}
    model = dict(description["model"])
    pieces = set(model["vocab"]) if isinstance(model["vocab"], dict) else {piece for piece, _ in model["vocab"]}
    model["vocab"] = renamed(model["vocab"], controls - {model.get("unk_token")})
    return {
        **description,
        "model": model,
        "added_tokens": [token for token in added if token["content"] not in controls & pieces],
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }


def renamed(vocab: Any, controls: set[str]) -> Any:
    """`vocab` with the same ids, its control pieces under names with a blank, at which every pre-tokenizer splits."""
    if isinstance(vocab, dict):
        return {(f"control {piece}" if piece in controls else piece): index for piece, index in vocab.items()}
    return [[f"control {piece}" if piece in controls else piece, score] for piece, score in vocab]
