"""Everything that can go wrong, as one tree; a policy reacts to a class, never to a status code or a string.

    RerankError                    code, status, retryable, a message that is safe to show
    ├─ ClientError                 the caller is wrong: never retried, never held against a model
    │  ├─ BadRequest           400
    │  │  ├─ UnknownField      422 in strict mode: a field that the format does not have
    │  │  └─ IdempotencyMismatch  422 the Idempotency-Key was used for another request
    │  ├─ Unauthenticated      401
    │  ├─ Forbidden            403
    │  ├─ NotFound             404
    │  │  └─ ModelNotFound     404
    │  ├─ MethodNotAllowed     405
    │  ├─ RequestTimeout       408
    │  ├─ Conflict             409 what is there already does not go with it
    │  ├─ TooLarge             413
    │  ├─ UnsupportedMedia     415
    │  └─ HeadTooLarge         431
    ├─ Refused                     we say no for now, with the seconds after which to try again
    │  ├─ RateLimited          429
    │  │  └─ QuotaExceeded     429 nothing is left of what the key may use
    │  ├─ Overloaded           503
    │  └─ StoreUnavailable     503 the database is away, and this cannot be done without
    ├─ UpstreamError           502 somebody we asked has failed; another channel may do better
    │  ├─ UpstreamMalformed    502 its answer was not one
    │  ├─ UpstreamUnavailable  502 it could not be reached, or said so itself: worth asking again
    │  ├─ UpstreamBusy         503 it has had enough of us for now; retry_after says how long
    │  ├─ UpstreamRefused      502 it does not take our key: only a person can mend that
    │  └─ UpstreamUnsuited     502 it does not know the model or the path: a matter of configuration
    ├─ DeadlineExceeded        504
    ├─ Abandoned               499 nobody waits for the answer any more; it never leaves the engine
    ├─ EngineError             500 our bug or our hardware: details go to the log alone
    ├─ BadSettings                 the configuration cannot be used; the message names the setting
    └─ LoadError                   a model cannot be served; met at start-up, before there is a request
       ├─ SourceUnreachable        its files could not be fetched
       ├─ UnsafeCheckpoint         its files could run code
       └─ UnsupportedModel         its files are whole, but no family here can run them

A message says what was wrong, where, and what to do; it never holds the text of an exception that is not ours.
"""

from __future__ import annotations

from typing import ClassVar


class RerankError(Exception):
    """`param` names the field at fault, such as `documents[3].text`; `retry_after` is in seconds."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class ClientError(RerankError):
    code = "invalid_request"
    status = 400


class BadRequest(ClientError):
    pass


class UnknownField(BadRequest):
    code = "unknown_field"
    status = 422


class IdempotencyMismatch(BadRequest):
    code = "idempotency_mismatch"
    status = 422


class Unauthenticated(ClientError):
    code = "invalid_api_key"
    status = 401


class Forbidden(ClientError):
    code = "forbidden"
    status = 403


class NotFound(ClientError):
    code = "not_found"
    status = 404


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(ClientError):
    code = "method_not_allowed"
    status = 405


class RequestTimeout(ClientError):
    code = "request_timeout"
    status = 408


class Conflict(ClientError):
    code = "conflict"
    status = 409


class TooLarge(ClientError):
    code = "request_too_large"
    status = 413


class UnsupportedMedia(ClientError):
    code = "unsupported_media"
    status = 415


class HeadTooLarge(ClientError):
    code = "head_too_large"
    status = 431


class Refused(RerankError):
    code = "refused"
    status = 503
    retryable = True


class RateLimited(Refused):
    code = "rate_limited"
    status = 429


class QuotaExceeded(RateLimited):
    code = "quota_exceeded"


class Overloaded(Refused):
    code = "overloaded"


class StoreUnavailable(Refused):
    code = "store_unavailable"


class UpstreamError(RerankError):
    code = "upstream_error"
    status = 502
    retryable = True


class UpstreamMalformed(UpstreamError):
    code = "upstream_malformed"


class UpstreamUnavailable(UpstreamError):
    code = "upstream_unavailable"


class UpstreamBusy(UpstreamError):
    code = "upstream_busy"
    status = 503


class UpstreamRefused(UpstreamError):
    code = "upstream_refused"


class UpstreamUnsuited(UpstreamError):
    code = "upstream_unsuited"


class DeadlineExceeded(RerankError):
    code = "deadline_exceeded"
    status = 504


class Abandoned(RerankError):
    code = "abandoned"
    status = 499


class EngineError(RerankError):
    code = "engine_error"


class BadSettings(RerankError):
    code = "bad_settings"


class LoadError(RerankError):
    code = "model_load_failed"


class SourceUnreachable(LoadError):
    code = "source_unreachable"


class UnsafeCheckpoint(LoadError):
    code = "unsafe_checkpoint"


class UnsupportedModel(LoadError):
    code = "unsupported_model"
