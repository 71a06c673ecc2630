from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import time
from uuid import UUID

import pytest

from rerankd.policies import uuid7 as module
from rerankd.policies.uuid7 import uuid7


def test_it_is_a_uuid_of_version_7_that_holds_when_it_was_made() -> None:
    made = UUID(uuid7())
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert abs((made.int >> 80) / 1000 - time()) < 60
    assert len(uuid7()) == 32


def test_each_is_greater_than_the_one_before_even_where_the_clock_stands_still_or_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter([2_000_000_000_000_000_000] * 10_000 + [1_999_000_000_000_000_000] * 10)
    monkeypatch.setattr(module, "_last", (0, 0))
    monkeypatch.setattr(module, "time_ns", lambda: next(moments))
    made = [uuid7() for _ in range(10_010)]
    assert made == sorted(set(made))


def test_threads_never_make_the_same() -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: uuid7(), range(4000)))
    assert len(set(made)) == 4000
