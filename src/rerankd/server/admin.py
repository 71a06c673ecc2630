"""/admin/api: what the operator sees, tries and changes of the channels. It is closed to whoever only has a key for ranking.

Who has the admin key decides where this server connects to; which addresses are refused all the same, `channels.guard` says.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rerankd.app import Application
from rerankd.channels.channel import Channel
from rerankd.channels.detect import detect
from rerankd.channels.probe import judge
from rerankd.channels.spec import ChannelSpec
from rerankd.dialects.directory import CALLED
from rerankd.errors import (
    BadRequest,
    BadSettings,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    NotFound,
    Unauthenticated,
)
from rerankd.server import openapi
from rerankd.server.cancellation import unless_disconnected
from rerankd.server.channel_bodies import ChannelBody, DetectBody, NewChannelBody, read, schema
from rerankd.server.keys import is_loopback, keys_of
from rerankd.server.models import JSON
from rerankd.settings import Settings
from rerankd.stored_channels import StoredChannels

DETECTION = 60.0
"""Seconds in which an upstream's format is looked for."""


class AdminCheck:
    """The admin's key where there is one. Without one it is open where no key is needed for anything and only this machine
    can ask; then to requests that name this machine as their host, which those of a strange site's page do not.
    """

    def __init__(self, settings: Settings) -> None:
        secret = settings.admin_key
        self._required = None if secret is None else secret.get_secret_value().encode()
        self._open = settings.api_key is None and is_loopback(settings.server.host)

    async def __call__(self, request: Request) -> None:
        if self._required is None and self._open:
            if not is_loopback(request.url.hostname or ""):
                raise Forbidden("Without an admin key, /admin is for localhost alone: set RERANKD_ADMIN_KEY.")
            return
        brought = keys_of(request)
        if not brought:
            raise Unauthenticated("No key was sent; /admin needs the admin key.")
        if self._required is None:
            raise Forbidden("There is no admin key here: start the server with RERANKD_ADMIN_KEY.")
        if not any(hmac.compare_digest(key.encode("latin-1"), self._required) for key in brought):
            raise Unauthenticated("The key is not the admin's.")


def admin_routes(application: Application) -> APIRouter:
    router = APIRouter(prefix="/admin/api", tags=["admin"], dependencies=[Depends(AdminCheck(application.settings))])
    channels = ChannelRoutes(application)
    for method, path, answer, summary, body in (
        ("GET", "/channels", channels.all, "The channels, and how they do", None),
        ("POST", "/channels", channels.create, "Add a channel, at once and for good", NewChannelBody),
        ("POST", "/channels/detect", channels.detect, "Find out which format an upstream speaks", DetectBody),
        ("PUT", "/channels/{name}", channels.replace, "Replace a channel that was added here", ChannelBody),
        ("DELETE", "/channels/{name}", channels.remove, "Remove a channel that was added here", None),
        ("POST", "/channels/{name}/test", channels.test, "Rank two documents through a channel, and judge it", None),
    ):
        router.add_api_route(
            path,
            answer,
            methods=[method],
            summary=summary,
            response_class=Response,
            openapi_extra={**openapi.CLOSED, **({} if body is None else schema(body))},
        )
    return router


class ChannelRoutes:
    def __init__(self, application: Application) -> None:
        self._application = application

    async def all(self) -> Response:
        """A channel's keys are never shown; `status` is its breaker's, for each of its models."""
        return _json({"channels": [described(self._application, spec) for spec in self._application.channels.values()]})

    async def create(self, request: Request) -> Response:
        """It serves from the next request on. Its keys, headers and proxy are stored sealed, and never shown again."""
        body = await read(request, NewChannelBody)
        await self._stored.add(body.settings(body.name), body.keys or ())
        return self._shown(body.name, 201)

    async def replace(self, request: Request) -> Response:
        """Keys, headers and proxy that are not given stay, unless the channel goes to another host."""
        name = _name(request)
        body = await read(request, ChannelBody)
        await self._stored.replace(body.settings(name), body.keys)
        return self._shown(name)

    async def remove(self, request: Request) -> Response:
        """Requests that are under way through it end."""
        await self._stored.remove(_name(request))
        return Response(status_code=204)

    async def test(self, request: Request) -> Response:
        name = _name(request)
        spec = self._application.channels.get(name)
        if spec is None:
            known = ", ".join(self._application.channels) or "none"
            raise NotFound(f"There is no channel {name[:100]!r}; there are: {known}.")
        channel = Channel(spec, self._application.client, CALLED[spec.dialect])
        return _json(
            {
                "channel": name,
                "models": {model: msgspec.to_builtins(await judge(channel, model)) for model in spec.models},
            }
        )

    async def detect(self, request: Request) -> Response:
        """Asks the upstream one real question in one format after the other. `dialect` is null where none fits."""
        body = await read(request, DetectBody)
        work = detect(body.base_url, body.api_key, self._application.client, body.allow_private, body.model)
        try:
            async with asyncio.timeout(DETECTION):
                findings = await unless_disconnected(request, work)
        except TimeoutError:
            raise DeadlineExceeded(f"The upstream was not known after {DETECTION} seconds.") from None
        except BadSettings as error:
            raise BadRequest(error.message, param="base_url") from None
        except ClientDisconnect:
            return Response(status_code=499)
        spoken = next((finding.dialect for finding in reversed(findings) if finding.speaks), None)
        return _json({"dialect": spoken, "evidence": msgspec.to_builtins(findings)})

    @property
    def _stored(self) -> StoredChannels:
        if self._application.stored is None:
            raise Conflict("This server keeps no channels; `rerankd serve` does.")
        return self._application.stored

    def _shown(self, name: str, status: int = 200) -> Response:
        return _json(described(self._application, self._application.channels[name]), status)


def described(application: Application, spec: ChannelSpec) -> dict[str, Any]:
    """All that a channel is, save what may hold a secret: of its headers the names, and whether there is a proxy."""
    stored = application.stored is not None and spec.name in application.stored.specs
    return {
        "name": spec.name,
        "origin": "store" if stored else "file",
        "dialect": spec.dialect,
        "base_url": spec.base_url,
        "keys": len(spec.keys),
        "headers": list(spec.headers),
        "proxy": spec.proxy is not None,
        "priority": spec.priority,
        "weight": spec.weight,
        "timeout": spec.timeout,
        "max_documents": spec.max_documents,
        "max_tokens": spec.max_tokens,
        "listwise": spec.listwise,
        "score": spec.score,
        "allow_private": spec.allow_private,
        "models": {
            model: {"upstream": upstream, **msgspec.to_builtins(application.breakers[spec.name, model].state)}
            for model, upstream in spec.models.items()
        },
    }


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type=JSON)
