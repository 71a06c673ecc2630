"""What vLLM's `/rerank` and `/score` have in common: the options, how a cut is asked for, and the error.

A text that is too long is an error there unless `truncate_prompt_tokens` is given, and so it is here. That number cuts the
query and the document together, which nothing here can; it is taken for a limit of the document, so that a pair is
longer by its query at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rerankd.dialects import openai_shapes
from rerankd.dialects.fields import MOST_TOKENS, Tokens, used
from rerankd.dialects.openai_shapes import ErrorBody
from rerankd.dialects.root_request import priority_of
from rerankd.errors import ClientError, RerankError
from rerankd.types import Document, RerankRequest

AS_THE_MODEL_CAN = -1

REQUEST_LOSSES: Mapping[str, object] = {
    "documents.fields": None,
    "return_embeddings": False,
    "max_chunks_per_doc": None,
    "overlap_tokens": None,
    "priority": "interactive",
    "unread": (),
}
"""A priority is read but never sent: without priority scheduling, vLLM answers any but 0 with an error."""

TYPES: Mapping[int, str] = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFoundError",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
"""vLLM's names for errors; it has two more, for whatever else is the client's fault or the server's."""


class ChatTemplateKwargs(msgspec.Struct, omit_defaults=True):
    instruction: str | None = None


class VllmOptions(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    truncate_prompt_tokens: Annotated[
        Annotated[int, Meta(ge=AS_THE_MODEL_CAN, le=MOST_TOKENS)] | None,
        Meta(description="Cut what is longer; -1: at what the model can. Absent: what is too long is an error."),
    ] = None
    truncation_side: str | None = None
    use_activation: Annotated[
        bool | None, Meta(description="True: probabilities; false: logits; absent: the model's own scale.")
    ] = None
    activation: Annotated[bool | None, Meta(description="As `use_activation`, its older name.")] = None
    instruction: Annotated[str | None, Meta(description="What the ranking follows, where the model can.")] = None
    chat_template_kwargs: ChatTemplateKwargs | None = None
    max_tokens_per_doc: Annotated[
        Tokens | None, Meta(description="Read so many tokens of each document; 0 means no limit.")
    ] = None
    max_tokens_per_query: Tokens | None = None
    priority: Annotated[int | None, Meta(description="0 goes first; above 0 waits for others.")] = None
    request_id: str | None = None
    cache_salt: str | None = None
    user: str | None = None


def parse(fields: VllmOptions, query: str, documents: tuple[Document, ...], **more: Any) -> RerankRequest:
    kwargs = fields.chat_template_kwargs or ChatTemplateKwargs()
    activated = fields.activation if fields.use_activation is None else fields.use_activation
    return RerankRequest(
        query=query,
        documents=documents,
        model=fields.model,
        instruction=fields.instruction or kwargs.instruction or None,
        max_tokens_per_doc=_limit(fields.max_tokens_per_doc, fields.truncate_prompt_tokens),
        truncation=fields.truncate_prompt_tokens is not None,
        raw_scores=None if activated is None else not activated,
        priority=priority_of(fields.priority),
        unread=used(
            truncation_side=fields.truncation_side if fields.truncation_side == "left" else None,
            max_tokens_per_query=fields.max_tokens_per_query or None,
            request_id=fields.request_id,
            cache_salt=fields.cache_salt,
        ),
        **more,
    )


def render(kind: type[VllmOptions], request: RerankRequest, **texts: Any) -> bytes:
    """The instruction stands twice, since versions of the server differ in where they look for it."""
    return msgspec.json.encode(
        kind(
            model=request.model,
            truncate_prompt_tokens=AS_THE_MODEL_CAN if request.truncation else None,
            use_activation=None if request.raw_scores is None else not request.raw_scores,
            instruction=request.instruction,
            chat_template_kwargs=ChatTemplateKwargs(request.instruction) if request.instruction else None,
            max_tokens_per_doc=request.max_tokens_per_doc,
            **texts,
        )
    )


def render_error(error: RerankError) -> tuple[int, bytes]:
    other = "BadRequestError" if isinstance(error, ClientError) else "InternalServerError"
    detail = openai_shapes.detail_of(error, TYPES.get(error.status, other))
    return error.status, msgspec.json.encode(ErrorBody(detail))


def _limit(*limits: int | None) -> int | None:
    """The smallest; 0 and -1 are none."""
    return min((limit for limit in limits if limit and limit > 0), default=None)
