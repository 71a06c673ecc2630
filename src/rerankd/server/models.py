"""GET /v1/models: what is served and under which names, as OpenAI lists models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time

import msgspec
from starlette.responses import Response

from rerankd.catalog import Catalog

FACTS = ("score", "max_length", "instructions", "dtype", "device")
"""What a client is told of a model's card: how to read its scores, and what it can be asked."""


def models_route(catalog: Catalog) -> Callable[[], Awaitable[Response]]:
    started = int(time())
    cards = {card.name: card for card in catalog.cards}
    listed = [
        {
            "id": name,
            "object": "model",
            "created": started,
            "owned_by": "rerankd",
            "root": root,
            "type": "rerank",
            **{fact: getattr(cards[root], fact) for fact in FACTS},
        }
        for name, root in [*((name, name) for name in cards), *catalog.aliases.items()]
    ]
    body = msgspec.json.encode({"object": "list", "data": listed})

    async def models() -> Response:
        """OpenAI's list; `root` is the model behind an alias, `score` the scale on which it answers, `max_length` the tokens
        that it reads at once (null: any), `instructions` whether it follows one.
        """
        return Response(body, media_type="application/json")

    return models
