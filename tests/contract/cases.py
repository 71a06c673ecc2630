"""What every client is asked to do, and the shape in which it says what came of it: one place for both sides.

The clients' environments have no rerankd in them, so nothing is imported here but what Python brings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEY = "the-key-of-the-contract-tests"
WRONG_KEY = "somebody-elses-key"
MODEL = "builtin"
UNKNOWN_MODEL = "rerank-that-is-not-served"

URL_VARIABLE = "RERANKD_URL"
KEY_VARIABLE = "RERANKD_API_KEY"

QUERY = "What is the capital of France?"
DOCUMENTS = (
    "The sky is blue.",
    "Berlin is the capital of Germany.",
    "I like to eat pizza.",
    "Paris is the capital of France.",
)
BEST_TWO = [3, 1]
TOO_MANY = len(DOCUMENTS) + 6

CHINESE_QUERY = "法国的首都是哪里？"
CHINESE_DOCUMENTS = ("今天天气很好，我们去公园散步。", "法国的首都是巴黎，位于塞纳河畔。", "我喜欢吃披萨和意大利面。")
CHINESE_BEST = 1

KEY_REFUSED = "The API key is not valid here."
MODEL_REFUSED = (UNKNOWN_MODEL, MODEL)
"""The message says what was asked for and what is served."""


@dataclass(frozen=True)
class Ask:
    """One request: of whom, with which key, and what; `top_n` None says that the client is given none."""

    url: str
    key: str
    model: str = MODEL
    query: str = QUERY
    documents: Sequence[str] = DOCUMENTS
    top_n: int | None = None

    def limit(self, name: str) -> dict[str, Any]:
        """`top_n` under the client's name for it, as keyword arguments: none where there is none to give."""
        return {} if self.top_n is None else {name: self.top_n}

    def places(self, texts: Iterable[str]) -> list[int]:
        """Where texts that came back stand in the request, for clients that give no index."""
        return [list(self.documents).index(text) for text in texts]


@dataclass(frozen=True)
class Answer:
    """What the client gave its user: `documents` and `usage` only where they came from the server."""

    order: Sequence[int]
    scores: Sequence[float]
    documents: Sequence[str] | None = None
    usage: float | None = None


def asks(url: str, key: str) -> Mapping[str, Ask]:
    """The requests by the names under which their answers are kept."""
    return {
        "no top_n": Ask(url, key),
        "top_n 2": Ask(url, key, top_n=2),
        "top_n too many": Ask(url, key, top_n=TOO_MANY),
        "Chinese": Ask(url, key, query=CHINESE_QUERY, documents=CHINESE_DOCUMENTS),
        "wrong key": Ask(url, WRONG_KEY),
        "unknown model": Ask(url, key, model=UNKNOWN_MODEL),
    }
