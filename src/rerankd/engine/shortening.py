"""Texts cut before they are put into a prompt, as jina's code cuts them: by way of ids, and back to a text."""

from __future__ import annotations

from dataclasses import dataclass

from rerankd.engine.prompt_tokens import PromptTokenizer


@dataclass(frozen=True, slots=True)
class Shortened:
    """`tokens` is what stayed of the text; `ids` are those of `text`, or None where it must be tokenised again."""

    text: str
    tokens: int
    ids: list[int] | None
    cut: bool = False


def shortened(tokenizer: PromptTokenizer, text: str, ids: list[int], limit: int) -> Shortened:
    """`text` of these `ids`, or what the first `limit` of them stand for: a cut within a character leaves U+FFFD there."""
    if len(ids) < limit:
        return Shortened(text, len(ids), ids)
    return Shortened(tokenizer.decode(ids[:limit]), limit, None, cut=len(ids) > limit)
