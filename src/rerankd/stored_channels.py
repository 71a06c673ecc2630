"""Channels that are added, changed and removed while the server runs: what is stored of them, and what comes of it.

What may hold a secret, which is keys, headers and a proxy, is stored sealed. A channel that is replaced keeps what is not
given anew, unless it goes to another host: a secret never follows to where it was not meant for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec
from pydantic import ValidationError
from yarl import URL

from rerankd.channels.keys import Secret
from rerankd.channels.spec import ChannelSpec
from rerankd.dialects.directory import CALLED
from rerankd.errors import BadRequest, BadSettings, Conflict, NotFound, RerankError, StoreUnavailable
from rerankd.settings import ChannelSettings
from rerankd.store.records import StoredChannel

log = logging.getLogger("rerankd.channels")

SEALED = ("headers", "proxy")
NOT_SHOWN = {"name", "api_key_env", *SEALED}
LOOK_AGAIN = 2.0
"""Seconds after which the database is asked whether it has other channels."""

Swap = Callable[[], None]


class Store(Protocol):
    """What is asked of `store.channels.ChannelStore`."""

    def read(self, *, ignored: Collection[str]) -> tuple[list[StoredChannel], list[str]]: ...
    async def revisions(self) -> Mapping[str, str]: ...
    async def add(self, channel: StoredChannel, actor: str = ...) -> None: ...
    async def replace(self, channel: StoredChannel, actor: str = ...) -> None: ...
    async def remove(self, name: str, actor: str = ...) -> None: ...


class Secrets(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is sealed, in the clear."""

    api_keys: tuple[str, ...] = ()
    headers: dict[str, str] = {}  # msgspec copies it
    proxy: str | None = None

    def __repr__(self) -> str:
        return "Secrets(***)"


class StoredChannels:
    """Those of the database, by name, in `specs`. One change is made at a time: it is built, stored, and then served; what
    another process has stored is served as soon as it is looked at, and as `follow` does that within a few seconds.
    """

    def __init__(
        self,
        store: Store,
        in_file: Collection[str],
        taken: Collection[str],
        prepare: Callable[[Mapping[str, ChannelSpec]], Swap],
    ) -> None:
        """`in_file` are the names of the configured channels, which win; `taken` are names that mean other than a model.

        `prepare` builds all that would serve with given channels, and returns what puts it into service. Raises
        `BadSettings` where a channel that is stored cannot be used.
        """
        self._store = store
        self._in_file = in_file
        self._taken = taken
        self._prepare = prepare
        self._changing = asyncio.Lock()
        self._ignored: set[str] = set()
        self.specs: Mapping[str, ChannelSpec] = {}
        self.unread = False
        """Whether the database was away when they were to be read; `look` does it later."""
        try:
            self.specs = self._read()
        except StoreUnavailable:
            log.warning("the database is away; stored channels serve as soon as it is there")
            self.unread = True

    async def follow(self) -> None:
        """Looks again and again, until it is cancelled. What cannot be used is told once, and changes nothing."""
        told = ""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            try:
                await self.look()
                told = ""
            except StoreUnavailable:
                continue
            except RerankError as error:
                if error.message != told:
                    log.error("stored channels were changed, and cannot be used as they are: %s", error.message)
                told = error.message

    async def look(self) -> None:
        """Serves what is stored, where that is not what is served.

        Raises `StoreUnavailable`, and `BadSettings` as the start does; then what was served still is.
        """
        async with self._changing:
            if not self.unread and await self._is_served():
                return
            self._prepared(await asyncio.to_thread(self._read))()
            self.unread = False

    async def _is_served(self) -> bool:
        stored = await self._store.revisions()
        served = {name: spec.revision for name, spec in self.specs.items()}
        return {name: revision for name, revision in stored.items() if name not in self._in_file} == served

    def _read(self) -> Mapping[str, ChannelSpec]:
        stored, ignored = self._store.read(ignored=self._in_file)
        for name in set(ignored) - self._ignored:
            log.warning("channel %s is configured, and the one of that name in the database is left out", name)
        self._ignored = set(ignored)
        return {each.name: _restored(each) for each in stored}

    async def add(self, channel: ChannelSettings, keys: Sequence[Secret], actor: str = "") -> None:
        """`actor` is who is to stand in the log of changes.

        Raises `Conflict` where a name is taken, and `BadRequest` where the channel cannot be."""
        async with self._changing:
            self._refuse_configured(channel.name)
            if channel.name in self.specs:
                raise Conflict(f"There is a channel {channel.name!r} already; PUT replaces it.", param="name")
            stored, serve = self._built(channel, keys)
            await self._store.add(stored, actor)
            serve()

    async def replace(self, channel: ChannelSettings, keys: Sequence[Secret] | None, actor: str = "") -> None:
        """Keeps the keys where none are given, if the host is the same. Raises `NotFound`, or as `add` does."""
        async with self._changing:
            stored, serve = self._built(*_with_kept(channel, keys, self._known(channel.name)))
            await self._store.replace(stored, actor)
            serve()

    async def remove(self, name: str, actor: str = "") -> None:
        """Raises `NotFound`, and `Conflict` for a configured channel."""
        async with self._changing:
            self._known(name)
            serve = self._prepared({other: spec for other, spec in self.specs.items() if other != name})
            await self._store.remove(name, actor)
            serve()

    def _known(self, name: str) -> ChannelSpec:
        self._refuse_configured(name)
        if name not in self.specs:
            raise NotFound(f"There is no channel {name[:100]!r} in the database.")
        return self.specs[name]

    def _refuse_configured(self, name: str) -> None:
        if name in self._in_file:
            raise Conflict(
                f"The channel {name!r} is configured in rerankd.toml, which wins; it is changed there.", param="name"
            )

    def _built(self, channel: ChannelSettings, keys: Sequence[Secret]) -> tuple[StoredChannel, Swap]:
        """What is to be stored, and what puts it into service then."""
        taken = next((model for model in channel.models if model in self._taken), None)
        if taken is not None:
            raise Conflict(f"{taken!r} is an alias or a cascade here, and cannot be a channel's model.", param="models")
        with _the_callers_fault():
            stored = _stored(channel, keys)
            spec = spec_of(channel, keys, stored.revision)
            return stored, self._prepared({**self.specs, channel.name: spec})

    def _prepared(self, specs: Mapping[str, ChannelSpec]) -> Swap:
        swap = self._prepare(specs)

        def serve() -> None:
            self.specs = specs
            swap()

        return serve


def _with_kept(
    channel: ChannelSettings, keys: Sequence[Secret] | None, before: ChannelSpec
) -> tuple[ChannelSettings, Sequence[Secret]]:
    """What may hold a secret and is not given is as it was `before`, if the host is the same."""
    with _the_callers_fault():
        if host_of(channel.base_url) != host_of(before.base_url):
            return channel, keys or ()
    kept = {name: getattr(before, name) for name in SEALED if name not in channel.model_fields_set}
    return channel.model_copy(update=kept), before.keys if keys is None else keys


@contextmanager
def _the_callers_fault() -> Iterator[None]:
    try:
        yield
    except BadSettings as error:
        raise BadRequest(error.message) from None


def spec_of(channel: ChannelSettings, keys: Sequence[Secret], revision: str = "") -> ChannelSpec:
    """The channel with its keys. Raises `BadSettings`, naming the channel."""
    if channel.dialect not in CALLED:
        known = ", ".join(sorted(CALLED))
        raise BadSettings(f"channels.{channel.name}: there is no dialect {channel.dialect!r}; known are {known}.")
    return ChannelSpec(
        name=channel.name,
        dialect=channel.dialect,
        base_url=channel.base_url,
        keys=tuple(keys),
        models=channel.models,
        headers=channel.headers,
        proxy=channel.proxy,
        timeout=channel.timeout,
        allow_private=channel.allow_private,
        max_documents=channel.max_documents,
        max_tokens=channel.max_tokens,
        listwise=channel.listwise,
        score=channel.score,
        priority=channel.priority,
        weight=channel.weight,
        revision=revision,
    )


def host_of(base_url: str) -> str:
    """What a secret is bound to: the scheme, the host and the port, so that it never goes out in the clear instead."""
    try:
        return str(URL(base_url).origin())
    except ValueError:
        raise BadSettings("The URL of an upstream cannot be read.") from None


def _stored(channel: ChannelSettings, keys: Sequence[Secret]) -> StoredChannel:
    secrets = Secrets(tuple(key.reveal() for key in keys), channel.headers, channel.proxy)
    return StoredChannel(
        name=channel.name,
        host=host_of(channel.base_url),
        fields=channel.model_dump(mode="json", exclude=NOT_SHOWN),
        secrets=None if secrets == Secrets() else msgspec.json.encode(secrets),
    )


def _restored(stored: StoredChannel) -> ChannelSpec:
    """Raises `BadSettings`, naming the channel and showing nothing of it."""
    try:
        secrets = Secrets() if stored.secrets is None else msgspec.json.decode(stored.secrets, type=Secrets)
        hidden = {"headers": secrets.headers, "proxy": secrets.proxy}
        channel = ChannelSettings.model_validate({**stored.fields, **hidden, "name": stored.name})
    except (ValidationError, msgspec.DecodeError):
        raise BadSettings(f"channels.{stored.name}: what the database holds of it cannot be read.") from None
    if host_of(channel.base_url) != stored.host:
        raise BadSettings(f"channels.{stored.name}: its address in the database is not that of its secrets' host.")
    return spec_of(channel, tuple(map(Secret, secrets.api_keys)), stored.revision)
