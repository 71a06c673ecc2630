"""Builds everything that serves, from the settings; closes everything that it built. There is no logic here."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from types import TracebackType

import msgspec

from rerankd.books import Books, Ledger
from rerankd.catalog import Catalog
from rerankd.channels.channel import Channel
from rerankd.channels.client import Client
from rerankd.channels.keys import Secret
from rerankd.channels.spec import ChannelSpec
from rerankd.dialects.directory import CALLED
from rerankd.engine.loading import ModelSpec, load_local
from rerankd.engine.local import LocalReranker
from rerankd.engine.revision import revision_of
from rerankd.engine.scheduler import Device
from rerankd.errors import BadSettings
from rerankd.pipeline import Accounting, Cascade, Local, Member, Remote, bare, pipeline
from rerankd.policies.breaker import Breaker
from rerankd.policies.counters import Counters
from rerankd.policies.memory_counters import MemoryCounters
from rerankd.policies.prices import Prices
from rerankd.policies.score_store import Layered, MemoryScores, ScoreStore
from rerankd.policies.shared_counters import FallingBack
from rerankd.reranker import Reranker
from rerankd.retention import Forget, retained
from rerankd.settings import ChannelSettings, EngineSettings, ModelSettings, Settings, Source
from rerankd.store.redis_connection import Pause
from rerankd.store.redis_counters import RedisCounters
from rerankd.store.redis_scores import RedisScores
from rerankd.stored_channels import Store, StoredChannels, Swap, spec_of
from rerankd.types import BUILTIN, CHANNEL, Call, ModelCard, RerankRequest, RerankResponse

log = logging.getLogger("rerankd.app")

LAST_WORDS = 1.0
"""Seconds."""

ModelProgress = Callable[[str, str, float, float], None]
"""Called with a model's name, what is going on with it, and how much of how much is done."""


class Application:
    """What the settings describe, ready to rank: `reranker` over the models of `catalog`, `channels` by name, and the
    breaker of each channel and model. These four are other ones after each change of the `stored` channels, and have to be
    looked up each time; a request under way ends on those that it began with.

    Raises `LoadError` where a model cannot be served, and `BadSettings` where a channel cannot be used; nothing is left
    behind then.
    """

    catalog: Catalog
    reranker: Reranker
    books: Books = Books()
    """What is kept of keys, usage and changes, for /admin; nothing where there is no database."""
    sources: Mapping[str, Source] = {}
    """Where each setting comes from, by its name; what is not in it is at its default."""

    def __init__(
        self,
        settings: Settings,
        progress: ModelProgress | None = None,
        books: Books | None = None,
        sources: Mapping[str, Source] | None = None,
    ) -> None:
        """With `books` requests are accounted for, and channels are added while it runs; they are closed with it.

        `sources` says where each setting comes from, for who asks.
        """
        self.settings = settings
        self.sources: Mapping[str, Source] = sources or {}
        self.books = books or Books()
        self.devices: dict[str, Device] = {}
        self.client = Client()
        self.channels: Mapping[str, ChannelSpec] = {}
        self.breakers: Mapping[tuple[str, str], Breaker] = {}
        self._remotes: Mapping[str, Channel] = {}
        self._shared = _shared_scores(settings)
        self.kept = MemoryScores(settings.cache.max_bytes) if settings.cache.max_bytes else None
        """The scores that are kept in memory; None where none are."""
        self._scores: ScoreStore | None = Layered(self.kept, self._shared) if self.kept and self._shared else None
        self._scores = self._scores or self.kept or self._shared
        self._own_counters, self._shared_counters = _counters(settings, self.books)
        self._accounting = None if books is None else self._accounts()
        self._aliases = {alias: model.name for model in settings.models for alias in model.aliases}
        self._configured = {channel.name: channel_spec(channel) for channel in settings.channels}
        self.stored = None if self.books.channels is None else self._stored(self.books.channels)
        """The channels that can be changed while the server runs; None where none can."""
        try:
            self._models = {model.name: self._load(model, progress) for model in served_models(settings)}
            self._revisions = {} if self._shared is None else self._revised()
            self.bare: Reranker = bare(self._models)
            """The models on this machine without anything that could answer in their place, such as a cache."""
            self.local = [model.card for model in self._models.values()]
            """The cards of the models on this machine."""
            self._prepared({} if self.stored is None else self.stored.specs)()
        except BaseException:
            self.close()
            raise

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """By whatever serves now."""
        return await self.reranker.rerank(request, call)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What goes on in the event loop beside the requests: counters, rows on their way, the end of old ones."""
        ledger = self.books.ledger
        if self._shared_counters is not None:
            self._shared_counters.start()
        try:
            if ledger is not None:
                await ledger.open()
            async with retained(self._forgetting()), self._following():
                yield
        finally:
            self._own_counters.close()
            if self._shared_counters is not None:  # or what ended last stays taken until it expires
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._shared_counters.settled(), LAST_WORDS)
            if ledger is not None:
                await ledger.stop()

    @asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        """Channels that another process stores are served here as well, as are those that could not be read at the start."""
        if self.stored is None:
            yield
            return
        following = asyncio.create_task(self.stored.follow(), name="stored channels")
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

    def _forgetting(self) -> Mapping[str, Forget]:
        ledger, claims, audit = self.books.ledger, self.books.claims, self.books.audit
        days = self.settings.ledger.retention_days
        found: dict[str, Forget] = {}
        if ledger is not None and days:
            found["rows of the ledger"] = lambda: ledger.forget(days)
        if audit is not None and days:
            found["rows of the log of changes"] = lambda: audit.forget(days)
        if claims is not None:
            found["answers under an Idempotency-Key"] = claims.prune
        return found

    @property
    def ledger(self) -> Ledger | None:
        return self.books.ledger

    @property
    def redis(self) -> Mapping[str, Pause]:
        """How Redis does, by what it is for; nothing where there is none."""
        used = {"scores": self._shared, "limits": self._shared_counters}
        return {what: store.pause for what, store in used.items() if store is not None}

    def _accounts(self) -> Accounting:
        prices = {model: price.micros for model, price in self.settings.prices.items()}
        counters: Counters = self._own_counters
        if self._shared_counters is not None:
            counters = FallingBack(self._shared_counters, self._own_counters, self.settings.limits.processes)
        return Accounting(
            counters=counters,
            deadline=self.settings.server.deadline,
            ledger=self.books.ledger,
            claims=self.books.claims,
            prices=Prices(prices),
        )

    def _stored(self, store: Store) -> StoredChannels:
        taken = {*self._aliases, *(cascade.name for cascade in self.settings.cascades)}
        return StoredChannels(store, self._configured.keys(), taken, self._prepared)

    def _prepared(self, stored: Mapping[str, ChannelSpec]) -> Swap:
        """Builds all that depends on channels; a channel that is as it was stays with its breakers and its resting keys."""
        specs = {**self._configured, **stored}
        same = {name for name, spec in specs.items() if self.channels.get(name) == spec}
        remotes = {
            name: self._remotes[name] if name in same else Channel(spec, self.client, CALLED[spec.dialect])
            for name, spec in specs.items()
        }
        breakers = {
            (name, model): self.breakers[name, model] if name in same else Breaker()
            for name, spec in specs.items()
            for model in spec.models
        }
        settings = self.settings
        catalog = Catalog(_cards(self.local, specs.values(), settings), self._aliases, settings.defaults.model)
        reranker = pipeline(
            self._members(specs, remotes, breakers),
            self._aliases,
            cascades={one.name: Cascade(one.first, one.then, one.keep) for one in settings.cascades},
            fallback=settings.fallback,
            scores=self._scores,
            accounting=self._accounting,
        )

        def swap() -> None:
            self.channels, self._remotes, self.breakers, self.catalog, self.reranker = (
                specs,
                remotes,
                breakers,
                catalog,
                reranker,
            )

        return swap

    def _members(
        self,
        specs: Mapping[str, ChannelSpec],
        remotes: Mapping[str, Channel],
        breakers: Mapping[tuple[str, str], Breaker],
    ) -> dict[str, list[Member]]:
        """Who answers for each public name."""
        members: dict[str, list[Member]] = {
            name: [
                Local(
                    name=name,
                    reranker=model,
                    pairwise=model.card.logits,
                    revision=self._revisions.get(name, ""),
                )
            ]
            for name, model in self._models.items()
        }
        for name, spec in specs.items():
            for model in spec.models:
                members.setdefault(model, []).append(self._remote(spec, model, remotes[name], breakers[name, model]))
        return members

    def _remote(self, spec: ChannelSpec, model: str, channel: Channel, breaker: Breaker) -> Remote:
        return Remote(
            name=spec.name,
            reranker=channel,
            breaker=breaker,
            ttl=self.settings.cache.ttl,
            revision=spec.revision if self._shared is None else _destination(spec, model),
            listwise=spec.listwise,
            max_documents=spec.max_documents,
            max_tokens=spec.max_tokens,
            priority=spec.priority,
            weight=spec.weight,
        )

    def trouble(self, model: str) -> str | None:
        """What keeps the device of `model` from working, or None."""
        return self._models[model].trouble

    def _load(self, model: ModelSettings, progress: ModelProgress | None) -> LocalReranker:
        def report(stage: str, done: float, total: float) -> None:
            if progress is not None:
                progress(model.name, stage, done, total)

        report("loading", 0.0, 1.0)
        return load_local(_spec(model, self.settings.engine), self.devices, report, self.settings.engine.max_wait)

    def _revised(self) -> dict[str, str]:
        """What each local model's scores depend on: asked for only where another process may have another model."""
        specs = {model.name: _spec(model, self.settings.engine) for model in served_models(self.settings)}
        return {name: revision_of(specs[name], model.card) for name, model in self._models.items()}

    def close(self) -> None:
        for shared in (self._shared, self._shared_counters, self.books.ledger):
            if shared is not None:
                shared.close()
        for device in self.devices.values():
            device.close()
        self.client.drop()

    def __enter__(self) -> Application:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shared_scores(settings: Settings) -> RedisScores | None:
    """Raises `BadSettings` where they are wanted and Redis's client is not installed."""
    redis = settings.server.redis
    return None if redis is None else RedisScores(redis.get_secret_value(), settings.cache.ttl)


def _counters(settings: Settings, books: Books) -> tuple[MemoryCounters, RedisCounters | None]:
    """This process's, and those that it shares with others. Without a ledger quotas begin at nothing with each start."""
    ledger, redis = books.ledger, settings.server.redis

    def visible() -> int:
        return 0 if ledger is None else ledger.visible

    own = MemoryCounters(ledger, visible)
    return own, None if redis is None else RedisCounters(redis.get_secret_value(), ledger, visible)


def _spec(model: ModelSettings, engine: EngineSettings) -> ModelSpec:
    return ModelSpec(
        name=model.name,
        source=model.origin,
        device=model.device,
        dtype=model.dtype,
        max_length=model.max_length,
        max_query_length=model.max_query_length,
        score=model.score,
        instruction=model.instruction,
        prefix_reuse=model.prefix_reuse,
        quantization=model.quantization,
        batch_tokens=engine.batch_tokens,
    )


def _destination(spec: ChannelSpec, model: str) -> str:
    """What an answer depends on: another process may have a channel of the same name that goes elsewhere."""
    facts = (spec.revision, spec.dialect, spec.base_url, spec.models[model], sorted(spec.headers.items()))
    return sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()


def channel_spec(channel: ChannelSettings) -> ChannelSpec:
    """A configured channel with its keys, from the environment. Raises `BadSettings`, naming the channel."""
    variables = (channel.api_key_env,) if isinstance(channel.api_key_env, str) else channel.api_key_env
    where = msgspec.json.encode((channel.dialect, channel.base_url, sorted(channel.models.items())))
    keys = [_secret(channel.name, variable) for variable in variables]
    return spec_of(
        channel, keys, sha256(where).hexdigest()[:16]
    )  # scores may be shared with a server configured otherwise


def _secret(channel: str, variable: str) -> Secret:
    if variable not in os.environ:
        raise BadSettings(f"channels.{channel}: the variable {variable}, which should hold its key, is not set.")
    return Secret(os.environ[variable])


def _cards(local: Sequence[ModelCard], channels: Iterable[ChannelSpec], settings: Settings) -> list[ModelCard]:
    """Of everything that can be asked for: a model of this machine stands for the channels that serve it too."""
    cards = {card.name: card for card in local}
    for spec in channels:
        for model in spec.models:
            known = cards.setdefault(model, _remote_card(model, spec))
            if known.family == CHANNEL and known.source != spec.name:
                cards[model] = msgspec.structs.replace(known, source=f"{known.source}, {spec.name}")
    for cascade in settings.cascades:
        then = cards[cascade.then]
        cards[cascade.name] = msgspec.structs.replace(then, name=cascade.name, listwise=True, notice=None)
    return list(cards.values())


def _remote_card(model: str, spec: ChannelSpec) -> ModelCard:
    return ModelCard(
        name=model,
        family=CHANNEL,
        score=spec.score,
        source=spec.name,
        device="remote",
        dtype="remote",
        listwise=spec.listwise,
    )


def served_models(settings: Settings) -> Sequence[ModelSettings]:
    """The configured models; `builtin` where the configuration names neither models nor channels."""
    if "models" in settings.model_fields_set or settings.channels:
        return settings.models
    return (ModelSettings(name=BUILTIN),)
