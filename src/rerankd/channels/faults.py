"""What an upstream's error is to us: one of our classes, with a sentence of our own.

A codec has read the error already. Here its class, and its status where the class says too little, decide who is at fault:
the caller, our key, our configuration, or the upstream.
"""

from __future__ import annotations

from rerankd.errors import (
    BadRequest,
    ClientError,
    DeadlineExceeded,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    RateLimited,
    RequestTimeout,
    RerankError,
    TooLarge,
    Unauthenticated,
    UnsupportedMedia,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnsuited,
)
from rerankd.policies.breaker import LONGEST_REST

NEEDS_A_PERSON = frozenset({401, 402, 403})
NEEDS_CONFIGURATION = frozenset({404, 405, 407, 410, 415, 426, 501})
MAY_BE_BACK = frozenset({408, 425, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""520 and the like are Cloudflare's, for an origin that it does not reach; 529 is Anthropic's, and others', overload."""


def is_answer(status: int) -> bool:
    return 200 <= status < 300


def fault(error: RerankError, status: int) -> RerankError:
    """`error` as a policy should see it; `status` is the answer's own. Nothing that the upstream wrote is kept."""
    if isinstance(error, BadRequest):
        return BadRequest("The upstream of this model does not take the request as it is.")
    if isinstance(error, TooLarge):
        return TooLarge("The request is too large for the upstream of this model.")
    if isinstance(error, RateLimited | UpstreamBusy):
        return UpstreamBusy("The upstream has had enough of us for now.", retry_after=_rest(error.retry_after))
    if isinstance(error, UpstreamMalformed):
        return UpstreamMalformed("The upstream's answer is not of the format that it should be.")
    if isinstance(error, Unauthenticated | Forbidden | UpstreamRefused) or _generic(error, status, NEEDS_A_PERSON):
        return UpstreamRefused("The upstream does not take our key.")
    if 300 <= status < 400:
        return UpstreamUnsuited("The upstream sends us elsewhere, where we do not go.")
    unsuited = isinstance(error, NotFound | MethodNotAllowed | UnsupportedMedia | UpstreamUnsuited)
    if unsuited or _generic(error, status, NEEDS_CONFIGURATION):
        return UpstreamUnsuited("The upstream does not know the model or the path.")
    away = isinstance(error, Overloaded | DeadlineExceeded | RequestTimeout | UpstreamUnavailable)
    if away or _generic(error, status, MAY_BE_BACK):
        return UpstreamUnavailable("The upstream says that it is not available.", retry_after=_rest(error.retry_after))
    return UpstreamError("The upstream has failed.")


def _generic(error: RerankError, status: int, statuses: frozenset[int]) -> bool:
    """Whether the codec could say no more than that something failed, and the status can."""
    return type(error) in (ClientError, UpstreamError) and status in statuses


def _rest(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_REST)
