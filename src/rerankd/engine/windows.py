"""How much of a document is read: all of it, its beginning, or overlapping windows, as model and request say.

The windows are those of jina-reranker-v2's own code: each begins `overlap` tokens before the last one's end, and the last
one is as long as the others, so that it may overlap by more.
"""

from __future__ import annotations

from dataclasses import dataclass

from rerankd.errors import BadRequest
from rerankd.types import RerankRequest

Window = tuple[int, int]
"""From which token to before which."""

DEFAULT_OVERLAP = 80


@dataclass(frozen=True, slots=True)
class Reading:
    """What a request wants of long documents: how many windows (None: as many as it takes), of `limit` tokens at most."""

    chunks: int | None
    overlap: int
    limit: int | None
    cut: bool

    def of(self, index: int, length: int, room: int) -> tuple[list[Window], bool]:
        """The windows of document `index` of `length` tokens where `room` tokens fit, and whether something is left out.

        Raises `BadRequest` where something would be, and the request forbids it.
        """
        wanted = length if self.limit is None else min(length, self.limit)
        found = windows(wanted, max(room, 0), min(self.overlap, room // 4), self.chunks)
        if found[-1][1] < wanted and not self.cut:
            raise BadRequest(
                f"`documents[{index}]` has {wanted} tokens or more where {room} fit, and `truncation` is false; send less "
                "of it, or leave `truncation` out.",
                param=f"documents[{index}]",
            )
        return found, found[-1][1] < length


def reading(request: RerankRequest, chunks: int | None = 1) -> Reading:
    """`chunks` is the model's own habit: 1 for a cut, None for as many windows as a document takes."""
    return Reading(
        chunks=chunks if request.max_chunks_per_doc is None else request.max_chunks_per_doc,
        overlap=DEFAULT_OVERLAP if request.overlap_tokens is None else request.overlap_tokens,
        limit=request.max_tokens_per_doc,
        cut=request.truncation,
    )


def windows(length: int, room: int, overlap: int, most: int | None) -> list[Window]:
    """One to `most` windows of `room` tokens over `length` tokens, neighbours sharing `overlap`; a lone one may be empty."""
    if length <= room or room <= overlap or most == 1:
        return [(0, min(length, room))]
    found: list[Window] = []
    start = 0
    while start + room < length:
        found.append((start, start + room))
        if len(found) == most:
            return found
        start += room - overlap
    return [*found, (length - room, length)]


def query_fits(request: RerankRequest, length: int, room: int, name: str = "query") -> None:
    """Raises `BadRequest` where the query, or the field `name`, would have to be cut and the request forbids it."""
    if length > room and not request.truncation:
        raise BadRequest(
            f"`{name}` has {length} tokens where {room} fit, and `truncation` is false; shorten it, or leave "
            "`truncation` out.",
            param=name,
        )
