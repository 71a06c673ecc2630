"""How a pair that is too long is cut: never the template, and the document before the query.

A Cut takes the query's tokens, the document's, the model's `max_length` and how many of it special tokens take, and says
how many tokens of query and document stay.
"""

from __future__ import annotations

from collections.abc import Callable

Cut = Callable[[int, int, int, int], tuple[int, int]]


def query_capped(query: int, document: int, max_length: int, special: int) -> tuple[int, int]:
    """FlagEmbedding's: the query keeps at most three quarters of `max_length`, and the document gives way for the rest."""
    kept = min(query, max_length * 3 // 4, max_length - special)
    return kept, min(document, max_length - special - kept)


def longest_first(query: int, document: int, max_length: int, special: int) -> tuple[int, int]:
    """sentence-transformers' and TEI's: the longer of the two gives way until both fit; the odd token stays with it."""
    room = max_length - special
    if query + document <= room:
        return query, document
    if query <= room - query:
        return query, room - query
    if document <= room - document:
        return room - document, document
    return (room // 2, room - room // 2) if query <= document else (room - room // 2, room // 2)
