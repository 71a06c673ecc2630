"""Changes of channels in an application: what is stored, what serves, and what is under way meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping

import msgspec
import pytest

from rerankd import stored_channels
from rerankd.app import Application
from rerankd.books import Books
from rerankd.channels.client import Answer, Client
from rerankd.channels.keys import Secret
from rerankd.errors import BadSettings, Conflict, EngineError, ModelNotFound, StoreUnavailable
from rerankd.settings import ChannelSettings, Settings
from rerankd.store.records import StoredChannel
from rerankd.stored_channels import StoredChannels
from rerankd.types import Call, Document, RerankRequest

KEY = Secret("sk-canary-0123456789")
REQUEST = RerankRequest(query="q", documents=(Document("d"),), model="far")
ANSWER = msgspec.json.encode({"results": [{"index": 0, "relevance_score": 0.5}]})


class Kept:
    """A store in memory, which can be told to fail."""

    def __init__(self, *channels: StoredChannel) -> None:
        self.channels = {channel.name: channel for channel in channels}
        self.broken = False

    def read(self, *, ignored: Collection[str]) -> tuple[list[StoredChannel], list[str]]:
        names = [name for name in self.channels if name in ignored]
        return [channel for name, channel in self.channels.items() if name not in ignored], names

    async def revisions(self) -> Mapping[str, str]:
        return {name: channel.revision for name, channel in self.channels.items()}

    async def add(self, channel: StoredChannel, actor: str = "") -> None:
        await self.replace(channel)

    async def replace(self, channel: StoredChannel, actor: str = "") -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise EngineError("The disk is full.")
        self.channels[channel.name] = channel

    async def remove(self, name: str, actor: str = "") -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise EngineError("The disk is full.")
        del self.channels[name]


class Gate(Client):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.open = asyncio.Event()

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float,
        proxy: str | None = None,
        allow_private: bool = False,
    ) -> Answer:
        self.asked.set()
        await self.open.wait()
        return Answer(200, {}, ANSWER)


def channel(**more: object) -> ChannelSettings:
    values: dict[str, object] = {
        "name": "new",
        "dialect": "jina",
        "base_url": "https://api.example.com",
        "models": {"far": "m"},
        **more,
    }
    return ChannelSettings.model_validate(values)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def application(kept: Kept) -> Iterator[Application]:
    with Application(Settings.parse({"models": [{"name": "lexical"}]}), books=Books(channels=kept)) as application:
        yield application


def stored(application: Application) -> StoredChannels:
    assert application.stored is not None
    return application.stored


async def test_a_request_under_way_ends_on_the_channel_with_which_it_began(application: Application) -> None:
    gate = application.client = Gate()
    await stored(application).add(channel(), [])
    under_way = asyncio.ensure_future(application.rerank(REQUEST, Call("1")))
    await gate.asked.wait()
    await stored(application).remove("new")
    with pytest.raises(ModelNotFound):
        await application.rerank(REQUEST, Call("2"))
    gate.open.set()
    assert (await under_way).results[0].relevance_score == 0.5


async def test_of_two_who_add_the_same_name_at_once_one_is_refused(application: Application, kept: Kept) -> None:
    changes = stored(application)
    told = await asyncio.gather(
        changes.add(channel(priority=1), []), changes.add(channel(priority=2), []), return_exceptions=True
    )
    assert [type(each) for each in told] == [type(None), Conflict]
    assert kept.channels["new"].fields["priority"] == application.channels["new"].priority == 1


async def test_what_could_not_be_stored_does_not_serve(application: Application, kept: Kept) -> None:
    await stored(application).add(channel(priority=1), [])
    kept.broken = True
    for change in (
        stored(application).add(channel(name="other", models={"other": "m"}), []),
        stored(application).replace(channel(priority=2), None),
        stored(application).remove("new"),
    ):
        with pytest.raises(EngineError, match="disk is full"):
            await change
    assert {name: spec.priority for name, spec in application.channels.items()} == {"new": 1}
    assert application.catalog.names() == ["lexical", "far"]


async def test_what_is_stored_holds_secrets_only_where_they_are_sealed(application: Application, kept: Kept) -> None:
    proxy, headers = f"https://u:{KEY.reveal()}@proxy.example", {"x": KEY.reveal()}
    await stored(application).add(channel(proxy=proxy, headers=headers), [KEY])
    (found,) = kept.channels.values()
    assert (found.name, found.host) == ("new", "https://api.example.com")
    assert KEY.reveal() not in repr(found) + str(found.fields)
    assert msgspec.json.decode(found.secrets or b"") == {"api_keys": [KEY.reveal()], "headers": headers, "proxy": proxy}


async def test_a_channel_comes_back_as_it_was_and_each_change_is_a_revision(
    application: Application, kept: Kept
) -> None:
    revisions: set[str] = set()
    for weight in (1.0, 2.0):
        if not revisions:
            await stored(application).add(channel(max_tokens=5, score="logit", headers={"x": "y"}), [KEY])
        else:
            await stored(application).replace(channel(weight=weight), None)
        with Application(application.settings, books=Books(channels=Kept(*kept.channels.values()))) as again:
            assert again.channels == application.channels
        revisions.add(application.channels["new"].revision)
    assert len(revisions) == 2
    assert "" not in revisions


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "https://evil.example"},
        {"fields": {}},
        {"fields": {"more": 1}},
        {"fields": {"dialect": "jina", "base_url": "https://evil.example", "models": {"far": "m"}}},
        {"fields": {"dialect": "none", "base_url": "https://api.example.com", "models": {"far": "m"}}},
        {"secrets": b"{"},
        {"secrets": b'{"api_keys": 1}'},
    ],
)
async def test_what_was_tampered_with_is_refused_by_name(
    application: Application, kept: Kept, changed: dict[str, object]
) -> None:
    await stored(application).add(channel(), [KEY])
    (found,) = kept.channels.values()
    values = {"name": found.name, "host": found.host, "fields": found.fields, "secrets": found.secrets, **changed}
    with pytest.raises(BadSettings, match=r"channels\.new") as caught:
        Application(application.settings, books=Books(channels=Kept(StoredChannel(**values))))  # type: ignore[arg-type]
    assert KEY.reveal() not in caught.value.message


class Away(Kept):
    """The database is away at the first reading."""

    def __init__(self, *channels: StoredChannel) -> None:
        super().__init__(*channels)
        self.away = True

    def read(self, *, ignored: Collection[str]) -> tuple[list[StoredChannel], list[str]]:
        if self.away:
            self.away = False
            raise StoreUnavailable("It is away.")
        return super().read(ignored=ignored)


async def test_what_could_not_be_read_at_the_start_serves_as_soon_as_it_can_be_with_a_ledger_or_without(
    application: Application, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(application).add(channel(), ())
    monkeypatch.setattr(stored_channels, "LOOK_AGAIN", 0.01)
    with Application(application.settings, books=Books(channels=Away(*kept.channels.values()))) as again:
        assert "new" not in again.channels
        async with again.running(), asyncio.timeout(10):
            while "new" not in again.channels:
                await asyncio.sleep(0.01)
        assert "far" in again.catalog.names()


async def test_what_another_process_changes_is_served_here_and_what_stayed_is_the_same_object(
    application: Application, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_channels, "LOOK_AGAIN", 0.01)
    await stored(application).add(channel(name="stays", models={"stays": "m"}), [])
    stayed = application.breakers["stays", "stays"]
    with Application(application.settings, books=Books(channels=kept)) as other:

        async def until_it_serves(*names: str) -> None:
            while set(other.channels) != set(names):
                await asyncio.sleep(0.01)

        async with other.running(), asyncio.timeout(10):
            stays = other.breakers["stays", "stays"]
            await stored(application).add(channel(), [KEY])
            await until_it_serves("stays", "new")
            assert "far" in other.catalog.names()
            await stored(application).replace(channel(weight=3.0), None)
            while other.channels["new"].weight != 3.0:
                await asyncio.sleep(0.01)
            assert [key.reveal() for key in other.channels["new"].keys] == [KEY.reveal()]
            await stored(application).remove("new")
            await until_it_serves("stays")
            assert other.breakers["stays", "stays"] is stays
    assert application.breakers["stays", "stays"] is stayed


async def test_a_stored_channel_that_cannot_be_used_is_told_of_once_and_changes_nothing(
    application: Application, kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stored_channels, "LOOK_AGAIN", 0.001)
    await stored(application).add(channel(), [])
    async with application.running(), asyncio.timeout(10):
        kept.channels["bad"] = StoredChannel(name="bad", host="https://x.example", fields={}, secrets=None)
        while "channels.bad" not in caplog.text:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert caplog.text.count("channels.bad") == 1
        assert set(application.channels) == {"new"}
        del kept.channels["bad"]
        kept.channels["more"] = StoredChannel(
            name="more",
            host="https://api.example.com",
            fields={"dialect": "jina", "base_url": "https://api.example.com", "models": {"more": "m"}},
            secrets=None,
        )
        while "more" not in application.channels:
            await asyncio.sleep(0.01)


async def test_nothing_is_read_while_nothing_has_changed(
    application: Application, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(application).add(channel(), [])
    monkeypatch.setattr(kept, "read", None)
    await stored(application).look()
    kept.channels.clear()
    with pytest.raises(TypeError):
        await stored(application).look()
