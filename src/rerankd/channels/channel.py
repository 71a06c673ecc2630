"""A remote reranker: one upstream, asked in its own format under its own name of the model, with the key whose turn it is.

What comes out is an answer that `Validated` still has to check, or one of our own errors without a word of the upstream's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from time import monotonic

import msgspec

from rerankd.channels.addresses import url_of
from rerankd.channels.auth import headers_for
from rerankd.channels.client import Answer, Poster
from rerankd.channels.faults import fault, is_answer
from rerankd.channels.keys import KeyRing, Secret
from rerankd.channels.spec import ChannelSpec
from rerankd.channels.usage import believed
from rerankd.dialects.base import Called
from rerankd.errors import (
    ClientError,
    DeadlineExceeded,
    RerankError,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnsuited,
)
from rerankd.policies.breaker import rest_asked_for
from rerankd.policies.retry_budget import MOST_CALLS
from rerankd.types import Call, Document, RerankRequest, RerankResponse

log = logging.getLogger("rerankd.channels")

SHORTEST_REST = 0.1
"""Seconds for which a key rests that has had enough, where the upstream says 0."""
LONGEST_SAID = 200
SHORTEST_HIDDEN = 6
DONE_BY_US = frozenset({"documents.fields", "unread", "return_documents", "model", "top_n"})
"""What a format may lose without harm: the caller gets it from us, or is told of it by the server."""
DEFAULTS = RerankRequest(query="", documents=())


class Channel:
    def __init__(
        self,
        spec: ChannelSpec,
        client: Poster,
        dialect: Called,
        keys: KeyRing | None = None,
        *,
        level: int = logging.WARNING,
    ) -> None:
        """`level` is how loudly the log says that the upstream failed.

        Raises `BadSettings` where a model's name cannot stand in the upstream's path.
        """
        self._spec = spec
        self._client = client
        self._dialect = dialect
        self._keys = KeyRing(spec.keys) if keys is None else keys
        self._level = level
        self._own = frozenset(name.lower() for name in spec.headers)
        self._losses = {
            field: (instead, getattr(DEFAULTS, field))
            for field, instead in dialect.request_losses.items()
            if field not in DONE_BY_US
        }
        self._urls = {public: url_of(spec.base_url, dialect.paths, name) for public, name in spec.models.items()}

    def __repr__(self) -> str:
        return f"Channel({self._spec.name!r})"

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises an `UpstreamError`, a `ClientError` where the request is at fault, or `DeadlineExceeded`."""
        public = self._public_name(request.model)
        sent = _sent(request, self._spec.models[public])
        body = self._dialect.render_request(sent)
        started = monotonic()
        try:
            answer = await self._asked_in_turn(self._urls[public], body, sent, call)
        finally:
            call.notes.took("upstream", (monotonic() - started) * 1000)
        call.notes.channel = self._spec.name
        return msgspec.structs.replace(
            answer,
            model=public,
            usage=believed(answer.usage, sent),
            warnings=tuple(dict.fromkeys((*answer.warnings, *self._warnings(request)))),
        )

    def _public_name(self, asked: str | None) -> str:
        if asked is None and len(self._spec.models) == 1:
            return next(iter(self._spec.models))
        if asked is None or asked not in self._spec.models:
            raise UpstreamUnsuited("The channel does not have the model.")
        return asked

    async def _asked_in_turn(self, url: str, body: bytes, sent: RerankRequest, call: Call) -> RerankResponse:
        """The answer to the first key that is taken. One key's refusal is not the channel's while others are left."""
        while True:
            key = self._keys.next()
            try:
                return await self._asked(url, body, sent, call, key)
            except (UpstreamRefused, UpstreamBusy) as error:
                if key is None:
                    raise
                self._rest(key, error)
                if self._keys.rests():
                    self._keys.next()  # raises what is true of all keys
                if call.notes.attempts >= MOST_CALLS:
                    raise UpstreamUnavailable(
                        "The upstream did not take one of our keys; the next one is due."
                    ) from None

    def _rest(self, key: Secret, error: UpstreamError) -> None:
        if isinstance(error, UpstreamRefused):
            self._keys.refused(key)
        else:
            self._keys.busy(key, max(rest_asked_for(error), SHORTEST_REST))

    async def _asked(
        self, url: str, body: bytes, sent: RerankRequest, call: Call, key: Secret | None
    ) -> RerankResponse:
        remaining = call.remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("The time for the request is up.")
        call.notes.attempts += 1
        try:
            answer = await self._client.post(
                url,
                body,
                self._headers(key, call.traceparent),
                timeout=self._spec.timeout if remaining is None else min(self._spec.timeout, remaining),
                proxy=self._spec.proxy,
                allow_private=self._spec.allow_private,
            )
        except UpstreamUnavailable:
            remaining = call.remaining()
            if remaining is not None and remaining <= 0:
                raise DeadlineExceeded("The upstream did not answer within the time that the request has.") from None
            raise
        return self._read(answer, sent)

    def _headers(self, key: Secret | None, traceparent: str) -> dict[str, str]:
        """The channel's own headers stand in the place of the format's, in whatever case they are written."""
        given = headers_for(self._dialect.name, key)
        if traceparent:
            given["traceparent"] = traceparent
        if not self._own:
            return given
        return {**{name: value for name, value in given.items() if name.lower() not in self._own}, **self._spec.headers}

    def _read(self, answer: Answer, sent: RerankRequest) -> RerankResponse:
        try:
            if is_answer(answer.status):
                return self._dialect.parse_response(answer.body, answer.headers, sent)
            error = self._dialect.parse_error(answer.status, answer.headers, answer.body)
        except RerankError as found:  # an error in an answer that has the status of a success
            error = found
        except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError) as broken:
            error = UpstreamMalformed(f"reading it failed with {type(broken).__name__}")
        ours = fault(error, answer.status)
        self._log(answer.status, ours, error.message, sent)
        raise ours

    def _log(self, status: int, ours: RerankError, said: str, sent: RerankRequest) -> None:
        """What the upstream said goes into the log alone; what it says of a request may quote it, and is left out."""
        if isinstance(ours, ClientError):
            log.log(min(self._level, logging.INFO), "channel %s: status %d, %s", self._spec.name, status, ours.code)
            return
        hidden = (*_revealed(self._spec), sent.query, *(each.text for each in sent.documents))
        log.log(
            self._level, "channel %s: status %d, %s: %s", self._spec.name, status, ours.code, redacted(said, hidden)
        )

    def _warnings(self, request: RerankRequest) -> list[str]:
        """Of what the caller asked for, what the upstream will never hear of."""
        return [
            f"{field}: not carried by the {self._dialect.name} format"
            for field, harmless in self._losses.items()
            if getattr(request, field) not in harmless
        ]


def _sent(request: RerankRequest, model: str) -> RerankRequest:
    """What goes out: texts alone, under the upstream's name, and nothing that would come back only to be thrown away."""
    return msgspec.structs.replace(
        request,
        model=model,
        documents=tuple(each if each.fields is None else Document(each.text) for each in request.documents),
        return_documents=False,
        unread=(),
    )


def _revealed(spec: ChannelSpec) -> Sequence[str]:
    return [*(key.reveal() for key in spec.keys), *spec.headers.values()]


def redacted(said: str, hidden: Iterable[str]) -> str:
    """An upstream's words on one line, cut, without what is `hidden` where that is long enough to say anything."""
    for text in sorted((text for text in hidden if len(text) >= SHORTEST_HIDDEN), key=len, reverse=True):
        said = said.replace(text, "***")
    return "".join(character if character.isprintable() else " " for character in said)[:LONGEST_SAID]
