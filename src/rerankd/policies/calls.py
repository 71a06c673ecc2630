"""A call that a policy makes for its caller: with notes of its own, which are carried over when it has ended."""

from __future__ import annotations

import msgspec

from rerankd.types import Call, Notes


def call_for(call: Call) -> Call:
    """`call` as it is, with nothing noted yet."""
    return msgspec.structs.replace(call, notes=Notes())


def carry_over(notes: Notes, into: Notes) -> None:
    """Times and attempts are added up; who answered, and whether out of a cache, is what the last call says."""
    for stage, milliseconds in notes.timings.items():
        into.took(stage, milliseconds, notes.began.get(stage))
    into.channel = notes.channel or into.channel
    into.attempts += notes.attempts
    into.cached = notes.cached
