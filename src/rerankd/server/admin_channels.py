"""/admin/api/channels: the upstreams, how they do, and changes of them, which serve from the next request on.

Who has the admin key decides where this server connects to; which addresses are refused all the same, `channels.guard` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rerankd.app import Application
from rerankd.channels.channel import Channel
from rerankd.channels.detect import detect
from rerankd.channels.probe import judge
from rerankd.channels.spec import ChannelSpec
from rerankd.dialects.directory import CALLED
from rerankd.errors import BadRequest, BadSettings, Conflict, DeadlineExceeded, NotFound
from rerankd.server.admin_reading import actor_of, answered, part_of_path, read
from rerankd.server.admin_route import AdminRoute
from rerankd.server.cancellation import unless_disconnected
from rerankd.server.channel_bodies import (
    EXPECTED,
    ChannelBody,
    ChannelList,
    ChannelModel,
    DetectBody,
    Detected,
    NewChannelBody,
    ShownChannel,
    Tried,
)
from rerankd.stored_channels import StoredChannels

DETECTION = 60.0
"""Seconds in which an upstream's format is looked for."""


class ChannelRoutes:
    def __init__(self, application: Application) -> None:
        self._application = application

    def routes(self) -> Sequence[AdminRoute]:
        one = "/channels/{name}"
        return (
            AdminRoute(
                method="GET",
                path="/channels",
                answer=self.all,
                summary="The channels, and how they do",
                gives=ChannelList,
                kept=False,
            ),
            AdminRoute(
                method="POST",
                path="/channels",
                answer=self.create,
                summary="Add a channel, at once and for good",
                takes=NewChannelBody,
                gives=ShownChannel,
                status=201,
            ),
            AdminRoute(
                method="POST",
                path="/channels/detect",
                answer=self.detect,
                summary="Find out which format an upstream speaks",
                takes=DetectBody,
                gives=Detected,
                kept=False,
            ),
            AdminRoute(
                method="PUT",
                path=one,
                answer=self.replace,
                summary="Replace a channel that was added here",
                takes=ChannelBody,
                gives=ShownChannel,
            ),
            AdminRoute(
                method="DELETE",
                path=one,
                answer=self.remove,
                summary="Remove a channel that was added here",
                status=204,
            ),
            AdminRoute(
                method="POST",
                path=f"{one}/test",
                answer=self.test,
                summary="Rank two documents through a channel, and judge it",
                gives=Tried,
                kept=False,
            ),
        )

    async def all(self) -> Response:
        """A channel's keys are never shown; `status` is its breaker's, for each of its models."""
        channels = self._application.channels.values()
        return answered(ChannelList([described(self._application, spec) for spec in channels]))

    async def create(self, request: Request) -> Response:
        """It serves from the next request on. Its keys, headers and proxy are stored sealed, and never shown again."""
        body = await read(request, NewChannelBody, EXPECTED)
        await self._stored.add(body.settings(body.name), body.keys or (), actor_of(request))
        return self._shown(body.name, 201)

    async def replace(self, request: Request) -> Response:
        """Keys, headers and proxy that are not given stay, unless the channel goes to another host."""
        name = part_of_path(request, "name")
        body = await read(request, ChannelBody, EXPECTED)
        self._known(name)  # one that is not there may have a name that no channel can have
        await self._stored.replace(body.settings(name), body.keys, actor_of(request))
        return self._shown(name)

    async def remove(self, request: Request) -> Response:
        """Requests that are under way through it end."""
        await self._stored.remove(part_of_path(request, "name"), actor_of(request))
        return Response(status_code=204)

    async def test(self, request: Request) -> Response:
        """Asks the upstream one real question for each of its models."""
        name = part_of_path(request, "name")
        spec = self._known(name)
        channel = Channel(spec, self._application.client, CALLED[spec.dialect])
        return answered(Tried(name, {model: await judge(channel, model) for model in spec.models}))

    async def detect(self, request: Request) -> Response:
        """Asks the upstream one real question in one format after the other. `dialect` is null where none fits."""
        body = await read(request, DetectBody, EXPECTED)
        work = detect(body.base_url, body.api_key, self._application.client, body.allow_private, body.model)
        try:
            async with asyncio.timeout(DETECTION):
                findings = await unless_disconnected(request.scope, request.receive, work)
        except TimeoutError:
            raise DeadlineExceeded(f"The upstream was not known after {DETECTION} seconds.") from None
        except BadSettings as error:
            raise BadRequest(error.message, param="base_url") from None
        except ClientDisconnect:
            return Response(status_code=499)
        spoken = next((finding.dialect for finding in reversed(findings) if finding.speaks), None)
        return answered(Detected(spoken, list(findings)))

    def _known(self, name: str) -> ChannelSpec:
        spec = self._application.channels.get(name)
        if spec is None:
            known = ", ".join(self._application.channels) or "none"
            raise NotFound(f"There is no channel {name[:100]!r}; there are: {known}.")
        return spec

    @property
    def _stored(self) -> StoredChannels:
        if self._application.stored is None:
            raise Conflict("This server keeps no channels; `rerankd serve` does.")
        return self._application.stored

    def _shown(self, name: str, status: int = 200) -> Response:
        return answered(described(self._application, self._application.channels[name]), status)


def described(application: Application, spec: ChannelSpec) -> ShownChannel:
    stored = application.stored is not None and spec.name in application.stored.specs
    return ShownChannel(
        name=spec.name,
        origin="store" if stored else "file",
        dialect=spec.dialect,
        base_url=spec.base_url,
        keys=len(spec.keys),
        headers=list(spec.headers),
        proxy=spec.proxy is not None,
        priority=spec.priority,
        weight=spec.weight,
        timeout=spec.timeout,
        max_documents=spec.max_documents,
        max_tokens=spec.max_tokens,
        listwise=spec.listwise,
        score=spec.score,
        allow_private=spec.allow_private,
        models={
            model: ChannelModel(upstream=upstream, **msgspec.to_builtins(application.breakers[spec.name, model].state))
            for model, upstream in spec.models.items()
        },
    )
