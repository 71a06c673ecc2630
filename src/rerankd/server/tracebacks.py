"""What went wrong and where, without a word of a caller: the frames and the kinds of exceptions, but not what they say.

The message of an exception that is not ours may quote what it failed on, which may be a document; a message of ours never
does. What was in a frame's variables is not shown either.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from rerankd.errors import RerankError

MOST = 8
"""Exceptions of one chain, and members of one group, that are shown."""
HEADING = "Traceback (most recent call last):"
CAUSE = "It was raised from that:"
CONTEXT = "While that was being handled:"
MEMBER = "Within it:"


def lines_of(error: BaseException) -> list[str]:
    """The first cause first, as Python tells it."""
    return [line for part in _told(error, MOST) for line in part.splitlines()]


def _told(error: BaseException, left: int) -> Iterator[str]:
    before, between = _before(error)
    if before is not None and left > 1:
        yield from _told(before, left - 1)
        yield between
    if error.__traceback__ is not None:
        yield HEADING
        yield from traceback.format_tb(error.__traceback__)
    yield _named(error)
    if isinstance(error, BaseExceptionGroup) and left > 1:
        for member in error.exceptions[:MOST]:
            yield MEMBER
            yield from _told(member, left // 2)


def _before(error: BaseException) -> tuple[BaseException | None, str]:
    if error.__cause__ is not None:
        return error.__cause__, CAUSE
    return (None if error.__suppress_context__ else error.__context__), CONTEXT


def _named(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, RerankError):
        return f"{name}: {error.message}"
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    return name if number is None else f"{name} (errno {number})"
