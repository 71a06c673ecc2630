"""What an answer costs: integers alone, rounded once.

What a cache saved is free: its tokens, and the searches of an answer that came out of it whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rerankd.types import Usage

TOKENS_PRICED, SEARCHES_PRICED = 1_000_000, 1_000


class Price(NamedTuple):
    """For a million tokens and for a thousand searches, in millionths of the currency's unit."""

    tokens: int = 0
    searches: int = 0

    def cost(self, usage: Usage) -> int:
        """In millionths of the unit; a half is rounded up."""
        counted = max(0, usage.prompt_tokens - usage.cached_tokens)
        from_cache = usage.prompt_tokens > 0 and counted == 0
        searches = 0 if from_cache else usage.search_units or 0
        whole = counted * self.tokens + searches * self.searches * (TOKENS_PRICED // SEARCHES_PRICED)
        return (whole + TOKENS_PRICED // 2) // TOKENS_PRICED


FREE = Price()


class Prices:
    """By the public name of a model; what has no price costs nothing."""

    def __init__(self, by_model: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Each is a price for a million tokens and one for a thousand searches, in millionths of the unit."""
        self._by_model = {model: Price(*price) for model, price in (by_model or {}).items()}

    def of(self, model: str) -> Price:
        return self._by_model.get(model, FREE)
