"""/admin/api/settings: every setting, what it is, and who said so; a secret is *** and never more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from starlette.responses import Response

from rerankd.app import Application
from rerankd.secret import SHOWN
from rerankd.server.admin_reading import answered
from rerankd.server.admin_route import AdminRoute
from rerankd.settings import Section, Settings, Source

URLS = ("server.database", "server.redis")
"""Secrets only for the password in them."""
HIDDEN = ("headers",)
"""Of a channel: any of them may be a key."""
IN_AUTHORITY = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)@")
QUERY = re.compile(r"[?#].*\Z", re.DOTALL)


class ShownSetting(msgspec.Struct):
    """`value` and `default` as JSON; sizes are bytes, prices decimal numbers in quotes, *** is a secret."""

    name: str
    value: Any
    default: Any
    source: Source
    description: str


class SettingList(msgspec.Struct):
    settings: list[ShownSetting]


class SettingRoutes:
    def __init__(self, application: Application) -> None:
        self._application = application

    def routes(self) -> Sequence[AdminRoute]:
        return (
            AdminRoute(
                method="GET",
                path="/settings",
                answer=self.all,
                summary="Every setting, its value, and where that comes from",
                gives=SettingList,
                kept=False,
            ),
        )

    async def all(self) -> Response:
        """They are read when the server starts. `source` is default, file, environment or command line."""
        return answered(SettingList(list(shown(self._application.settings, self._application.sources))))


def shown(settings: Settings, sources: Mapping[str, Source]) -> Iterator[ShownSetting]:
    for name, field, value in _fields(settings):
        default = field.get_default(call_default_factory=True, validated_data={})
        yield ShownSetting(
            name,
            _plain(name, value),
            _plain(name, default),
            sources.get(name, "default"),
            field.description or "",
        )


def _fields(settings: Settings) -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Section):
            for inner, of_section in type(value).model_fields.items():
                yield f"{name}.{inner}", of_section, getattr(value, inner)
        else:
            yield name, field, value


def _plain(name: str, value: Any) -> Any:
    """As JSON, without what is secret."""
    if isinstance(value, SecretStr):
        return without_password(value.get_secret_value()) if name in URLS else SHOWN
    if isinstance(value, BaseModel):
        return {inner: _plain(inner, getattr(value, inner)) for inner in type(value).model_fields}
    if isinstance(value, Mapping):
        return {inner: SHOWN if name in HIDDEN else _plain(name, one) for inner, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(name, one) for one in value]
    if isinstance(value, Path | Decimal):
        return str(value)
    return without_password(value) if isinstance(value, str) else value


def without_password(text: str) -> str:
    """Of a URL: nothing of its user but the name, and nothing of its query, which may hold a password too."""
    found = IN_AUTHORITY.match(text)
    if found is None:
        return QUERY.sub(f"?{SHOWN}", text) if "://" in text else text
    user, colon, _ = found[2].partition(":")
    return f"{found[1]}{user}{f':{SHOWN}' if colon else ''}@{QUERY.sub(f'?{SHOWN}', text[found.end() :])}"
