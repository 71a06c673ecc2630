"""Qwen3-Reranker's prompt, as its model card has it: the body is one text, and what is too long of it goes from its end."""

from __future__ import annotations

from rerankd.engine.prompt_encoding import Frame
from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.errors import LoadError

SYSTEM = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
MAX_LENGTH = 8192
"""The model card's; the model itself can read 32,768 tokens."""


class Qwen3Prompt:
    lead = "<Document>:"
    opening = " "
    instructions = True

    def __init__(self, tokenizer: PromptTokenizer, most: int, wanted: int | None) -> None:
        """Raises `LoadError` where `wanted` leaves no room for a document."""
        self.max_length = min(most, MAX_LENGTH if wanted is None else wanted)
        self._tokenizer = tokenizer
        tokenizer.token("<|im_start|>")
        self._prefix, self._suffix = tokenizer.template(SYSTEM), tokenizer.template(SUFFIX)
        self._room = self.max_length - len(self._prefix) - len(self._suffix)
        if self._room < 1:
            raise LoadError(f"A max_length of {self.max_length} leaves no room between the prompt's own words.")

    def around(self, query: str, instruction: str | None) -> Frame:
        followed = INSTRUCTION if instruction is None else instruction
        body = self._tokenizer.text(f"<Instruct>: {followed}\n<Query>: {query}\n{self.lead}")
        return Frame(
            before=[*self._prefix, *body[: self._room]],
            after=self._suffix,
            room=max(0, self._room - len(body)),
            asked=len(body),
            asked_room=self._room,
        )
