"""bge-reranker-v2-gemma's prompt, as FlagEmbedding joins it: the query may take three quarters, the document gives way."""

from __future__ import annotations

from rerankd.engine.prompt_encoding import Frame
from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.errors import LoadError

TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
PAIR_LENGTH = 512
"""FlagEmbedding's own limit for a query, and for a document."""


class GemmaPrompt:
    lead = "B:"
    opening = " "
    instructions = False

    def __init__(self, tokenizer: PromptTokenizer, most: int, wanted: int | None) -> None:
        """Raises `LoadError` where `wanted` leaves no room for a document."""
        self._tokenizer = tokenizer
        self._first = [tokenizer.token("<bos>")]
        newline, task = tokenizer.template("\n"), tokenizer.template(TASK)
        self._before_document = [*newline, *tokenizer.template(self.lead)]
        self._label = len(self._before_document) - len(newline)
        self._after = [*newline, *task]
        # Query and document may have PAIR_LENGTH tokens and, beside that, as many as the words behind them.
        template = 2 * len(self._after)
        self.max_length = min(most, PAIR_LENGTH + template if wanted is None else wanted)
        self._pair = self.max_length - template
        if self._pair // 4 <= len(self._before_document):
            raise LoadError(f"A max_length of {self.max_length} leaves no room between the prompt's own words.")

    def around(self, query: str, instruction: str | None) -> Frame:
        asked = self._tokenizer.text(f"A: {query}")
        kept = asked[: self._pair * 3 // 4]
        before = [*self._first, *kept, *self._before_document]
        return Frame(
            before=before,
            after=self._after,
            room=min(self._pair - self._label, self._pair + len(self._after) - len(before)),
            asked=len(asked),
            asked_room=self._pair * 3 // 4,
        )
