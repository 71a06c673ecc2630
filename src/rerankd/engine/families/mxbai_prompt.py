"""mxbai-rerank v2's prompt, of pieces tokenised one by one; the query may take three quarters, the document gives way."""

from __future__ import annotations

from rerankd.engine.prompt_encoding import Frame
from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.errors import LoadError

PREFIX = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n"
)
TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document pair, "
    "carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 for not "
    "relevant, 1 for relevant).\nRelevance:"
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"
PAIR_LENGTH = 8192
"""Tokens of query and document together."""


class MxbaiPrompt:
    lead = "document:"
    opening = " "
    instructions = True

    def __init__(self, tokenizer: PromptTokenizer, most: int, wanted: int | None) -> None:
        """Raises `LoadError` where `wanted` leaves no room for a document."""
        self._tokenizer = tokenizer
        tokenizer.token("<|im_start|>")
        self._prefix, self._newline = tokenizer.template(PREFIX), tokenizer.template("\n")
        self._after = [*self._newline, *tokenizer.template(TASK), *tokenizer.template(SUFFIX)]
        self._before_document = [*self._newline, *tokenizer.template(self.lead)]
        template = len(self._prefix) + len(self._after)
        self.max_length = min(most, PAIR_LENGTH + template if wanted is None else wanted)
        self._pair = self.max_length - template
        if self._pair // 4 <= len(self._before_document):
            raise LoadError(f"A max_length of {self.max_length} leaves no room between the prompt's own words.")

    def around(self, query: str, instruction: str | None) -> Frame:
        asked = self._tokenizer.text(
            f"instruction: {instruction}\nquery: {query}" if instruction else f"query: {query}"
        )
        kept = asked[: self._pair * 3 // 4]
        return Frame(
            before=[*self._prefix, *kept, *self._before_document],
            after=self._after,
            room=self._pair - len(kept) - len(self._before_document),
            asked=len(asked),
            asked_room=self._pair * 3 // 4,
        )
