"""What is served and under which names: OpenAI's list and its entries, which hold what Xinference's clients look up too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from time import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from rerankd.accounts import Caller
from rerankd.catalog import Catalog
from rerankd.errors import ModelNotFound
from rerankd.policies.permitted import may_use

JSON = "application/json"
FACTS = ("score", "max_length", "instructions", "dtype", "device")
"""What a client is told of a model's card: how to read its scores, and what it can be asked."""

Answer = Callable[[Request], Awaitable[Response]]


class Models:
    """The model list of the catalog that there is when it is asked for; it is written once for each."""

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog
        self._started = int(time())
        self._write(catalog())

    def _write(self, catalog: Catalog) -> None:
        cards = {card.name: card for card in catalog.cards}
        self._of = catalog
        self._entries: dict[str, dict[str, Any]] = {
            name: {
                "id": name,
                "object": "model",
                "created": self._started,
                "owned_by": "rerankd",
                "root": root,
                "type": "rerank",
                "model_type": "rerank",
                "model_name": name,
                **{fact: getattr(cards[root], fact) for fact in FACTS},
            }
            for name, root in [*((name, name) for name in cards), *catalog.aliases.items()]
        }
        self._listed = _list(self._entries.values())

    def _look_up(self) -> None:
        catalog = self._catalog()
        if catalog is not self._of:
            self._write(catalog)

    async def all(self, request: Request) -> Response:
        """OpenAI's list; `root` is the model behind an alias, `score` the scale on which it answers, `max_length` the tokens
        that it reads at once (null: any), `instructions` whether it follows one.
        """
        self._look_up()
        caller: Caller | None = request.state.caller
        if caller is None or not caller.models:
            return Response(self._listed, media_type=JSON)
        return Response(_list(self._permitted(caller).values()), media_type=JSON)

    async def one(self, request: Request) -> Response:
        """An entry of the list; Xinference's clients ask for it before they rank."""
        self._look_up()
        name = request.path_params["name"]
        entries = self._permitted(request.state.caller)
        if name not in entries:
            raise ModelNotFound(f"No model is named {name[:200]!r}; there are: {', '.join(entries)}.", param="model")
        return Response(msgspec.json.encode(entries[name]), media_type=JSON)

    def _permitted(self, caller: Caller | None) -> dict[str, dict[str, Any]]:
        """What the key may use: the rest is not there for it."""
        if caller is None:
            return self._entries
        return {name: entry for name, entry in self._entries.items() if may_use(caller, name, self._of.aliases)}


def _list(entries: Iterable[dict[str, Any]]) -> bytes:
    return msgspec.json.encode({"object": "list", "data": list(entries)})
