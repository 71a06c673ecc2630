"""/admin/api/models: what is served, by whom, under which names, and at what price."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from rerankd.app import Application
from rerankd.policies.breaker import Status
from rerankd.server.admin_reading import answered
from rerankd.server.admin_route import AdminRoute
from rerankd.settings import Settings
from rerankd.types import ModelCard, ScoreKind


class ServedBy(msgspec.Struct):
    """A channel that answers for the model, and how its breaker is."""

    channel: str
    upstream: str
    status: Status
    last_error: str | None


class Price(msgspec.Struct):
    """In millionths of the currency's unit."""

    per_million_tokens: int
    per_thousand_searches: int


class CascadeOf(msgspec.Struct):
    """The cheap model, the good one, and how many documents the good one sees."""

    first: str
    then: str
    keep: int


class ShownModel(msgspec.Struct, kw_only=True):
    """The model's card, and what the configuration says of it."""

    name: str
    family: str
    score: ScoreKind
    source: str
    device: str
    dtype: str
    max_length: int | None
    listwise: bool
    embeddings: bool
    instructions: bool
    logits: bool
    notice: str | None
    aliases: list[str]
    channels: list[ServedBy]
    cascade: CascadeOf | None
    fallback: list[str]
    price: Price


class ModelList(msgspec.Struct):
    default: str | None
    currency: str
    models: list[ShownModel]


class ModelRoutes:
    def __init__(self, application: Application) -> None:
        self._application = application

    def routes(self) -> Sequence[AdminRoute]:
        return (
            AdminRoute(
                method="GET",
                path="/models",
                answer=self.all,
                summary="The models, who serves them, and what they cost",
                gives=ModelList,
                kept=False,
            ),
        )

    async def all(self) -> Response:
        """`default` is what a request without a model gets."""
        application = self._application
        catalog, currency = application.catalog, application.settings.ledger.currency
        return answered(ModelList(catalog.name_for(None), currency, [self._shown(card) for card in catalog.cards]))

    def _shown(self, card: ModelCard) -> ShownModel:
        application = self._application
        return ShownModel(
            **msgspec.structs.asdict(card),
            aliases=[alias for alias, model in application.catalog.aliases.items() if model == card.name],
            channels=self._channels(card.name),
            cascade=_cascade(application.settings, card.name),
            fallback=list(application.settings.fallback.get(card.name, ())),
            price=_price(application.settings, card.name),
        )

    def _channels(self, model: str) -> list[ServedBy]:
        application = self._application
        serving = [spec for spec in application.channels.values() if model in spec.models]
        states = [(spec, application.breakers[spec.name, model].state) for spec in serving]
        return [ServedBy(spec.name, spec.models[model], state.status, state.last_error) for spec, state in states]


def _cascade(settings: Settings, model: str) -> CascadeOf | None:
    found = next((cascade for cascade in settings.cascades if cascade.name == model), None)
    return None if found is None else CascadeOf(found.first, found.then, found.keep)


def _price(settings: Settings, model: str) -> Price:
    price = settings.prices.get(model)
    return Price(0, 0) if price is None else Price(*price.micros)
