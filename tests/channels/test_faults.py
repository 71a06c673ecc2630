from __future__ import annotations

import pytest

from rerankd.channels.faults import fault
from rerankd.dialects.directory import CALLED
from rerankd.dialects.statuses import error_of
from rerankd.errors import (
    BadRequest,
    DeadlineExceeded,
    EngineError,
    ModelNotFound,
    RerankError,
    TooLarge,
    UnknownField,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnsuited,
)
from rerankd.policies.breaker import LONGEST_REST

SAID = "canary: document 3 says ..."
STATUSES: list[tuple[int, type[RerankError]]] = [
    (301, UpstreamUnsuited),
    (302, UpstreamUnsuited),
    (307, UpstreamUnsuited),
    (400, BadRequest),
    (401, UpstreamRefused),
    (402, UpstreamRefused),
    (403, UpstreamRefused),
    (404, UpstreamUnsuited),
    (405, UpstreamUnsuited),
    (407, UpstreamUnsuited),
    (408, UpstreamUnavailable),
    (409, UpstreamError),
    (410, UpstreamUnsuited),
    (413, TooLarge),
    (415, UpstreamUnsuited),
    (418, UpstreamError),
    (422, BadRequest),
    (429, UpstreamBusy),
    (499, UpstreamError),
    (500, UpstreamError),
    (501, UpstreamUnsuited),
    (502, UpstreamUnavailable),
    (503, UpstreamUnavailable),
    (504, UpstreamUnavailable),
    (505, UpstreamError),
    (521, UpstreamUnavailable),
    (529, UpstreamUnavailable),
    (599, UpstreamError),
]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_a_status_decides_where_nothing_else_is_known(status: int, kind: type[RerankError]) -> None:
    found = fault(error_of(status, {}, SAID), status)
    assert type(found) is kind


@pytest.mark.parametrize("dialect", CALLED.values(), ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_it_decides_so_in_every_format(dialect: object, status: int, kind: type[RerankError]) -> None:
    for body in (b"", b"<html>", b'{"detail": "canary"}', b"[]", b"null", b'{"error": {"message": "canary"}}'):
        found = fault(CALLED[dialect.name].parse_error(status, {}, body), status)  # type: ignore[attr-defined]
        assert type(found) is kind
        assert "canary" not in found.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnknownField(SAID, param=SAID), BadRequest),
        (ModelNotFound(SAID), UpstreamUnsuited),
        (EngineError(SAID), UpstreamError),
        (DeadlineExceeded(SAID), UpstreamUnavailable),
        (UpstreamMalformed(SAID), UpstreamMalformed),
        (UpstreamUnavailable(SAID), UpstreamUnavailable),
        (UpstreamBusy(SAID, retry_after=3), UpstreamBusy),
        (UpstreamRefused(SAID), UpstreamRefused),
        (UpstreamUnsuited(SAID), UpstreamUnsuited),
        (UpstreamError(SAID), UpstreamError),
    ],
)
def test_what_a_codec_knows_already_stays_and_nothing_that_was_said(
    error: RerankError, kind: type[RerankError]
) -> None:
    found = fault(error, 200)
    assert type(found) is kind
    assert "canary" not in found.message
    assert found.param is None


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("said", "kept"), [("0", 0.0), ("7", 7.0), ("999999", LONGEST_REST), ("soon", None), ("-5", None)]
)
def test_the_time_to_wait_is_kept_up_to_an_hour(status: int, said: str, kept: float | None) -> None:
    assert fault(error_of(status, {"retry-after": said}, None), status).retry_after == kept
