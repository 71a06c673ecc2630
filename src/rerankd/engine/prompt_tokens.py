"""The words of a prompt to ids: the template's own may name control tokens, a user's never do."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from rerankd.engine.tokens import TextTokenizer
from rerankd.errors import UnsupportedModel


class PromptTokenizer:
    def __init__(self, tokenizer_json: str) -> None:
        self._whole = Tokenizer.from_str(tokenizer_json)
        self._whole.no_truncation()
        self._whole.no_padding()
        self._texts = TextTokenizer(tokenizer_json)

    def template(self, text: str) -> list[int]:
        """The ids of words that are ours: what names a control token becomes one."""
        ids: list[int] = self._whole.encode(text, add_special_tokens=False).ids
        return ids

    def around(self) -> tuple[list[int], list[int]]:
        """The control tokens that the tokenizer puts before and behind a text."""
        ids: list[int] = self._whole.encode("a").ids
        inner = self.template("a")
        start = next(at for at in range(len(ids)) if ids[at : at + len(inner)] == inner)
        return ids[:start], ids[start + len(inner) :]

    def texts(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        """The ids of words that may be a user's, exact as far as `limit` ids; a control token's name is a text like any."""
        return self._texts.encode(texts, limit)

    def text(self, text: str) -> list[int]:
        return self.texts([text])[0]

    def decode(self, ids: list[int]) -> str:
        """The text of these ids; where they begin or end within a character, that one is U+FFFD."""
        text: str = self._whole.decode(ids, skip_special_tokens=False)
        return text

    def token(self, word: str) -> int:
        """The id of `word`. Raises `UnsupportedModel` where it is no single token."""
        ids = self.template(word)
        if len(ids) != 1:
            raise UnsupportedModel(f"The tokenizer has no token {word}, which this kind of model is asked with.")
        return ids[0]

    def joins(self, lead: str, texts: Sequence[str]) -> bool:
        """Whether each of `texts` has behind `lead` the ids that it has alone."""
        before = self.text(lead)
        return all(self.text(lead + text) == [*before, *self.text(text)] for text in texts)
