"""GET /v1/models: what is served and under which names, as OpenAI lists models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time

import msgspec
from starlette.responses import Response

from rerankd.catalog import Catalog


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
            "score": cards[root].score,
            "max_length": cards[root].max_length,
        }
        for name, root in [*((name, name) for name in cards), *catalog.aliases.items()]
    ]
    body = msgspec.json.encode({"object": "list", "data": listed})

    async def models() -> Response:
        """OpenAI's list; `root` is the model behind an alias, `score` the scale on which it answers."""
        return Response(body, media_type="application/json")

    return models
