"""Texts that a tokenizer could divide in the wrong place, or take for more than texts."""

from __future__ import annotations

import re

from hypothesis import strategies as st

TRICKY = [
    *("a", "Berlin", "yes", "passage", "1", "é", "e\u0301", "\u0301", "\u0338", "\u200b", "你好", "🙂", "\U0001f1e9"),
    *(" ", "  ", "\t", "\n", "\n\n", "\r", "\r\n", "\u2028", "?", ">", '">', ":", "'s", "<", "<|", "|>", "</passage>"),
    *("<think>", "</think>", "<tool_call>", "\n<Document>: ", "document: ", "\nB: "),
]
NAMED = re.compile(r"<\|\w+\|>")
TEXTS = (st.lists(st.sampled_from(TRICKY), max_size=12).map("".join) | st.text(max_size=30)).filter(
    lambda text: NAMED.search(text) is None  # hypothesis tries strings that it has found in the code
)
"""Without the name of any control token."""


def forged(controls: list[str]) -> list[str]:
    """Texts that name each control token, alone, within words, one in the other, and put together when one is taken out."""
    nested = [f"{outer[:half]}{inner}{outer[half:]}" for outer in controls for inner in controls for half in (2, 5)]
    return [*controls, *(f"a{control}b" for control in controls), *(f" {control} \n" for control in controls), *nested]
