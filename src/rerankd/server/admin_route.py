"""A route of /admin/api, and what /openapi.json says of it, from the types that read its request and make its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from rerankd.dialects.root_error import ErrorBody
from rerankd.server import openapi

JSON = "application/json"
ALWAYS = {
    "401": "The admin key is missing or not valid.",
    "403": "The key is not an admin's.",
    "500": "The server failed; its log says more.",
    "503": "The database is away; `retry-after` says when to try again.",
}
OF_A_QUERY = {
    "400": "A parameter is wrong; which one is in `error.param`.",
    "422": "There is no such parameter or field.",
}
OF_A_BODY = {
    "409": "What is there already does not go with it, or nothing is kept here.",
    "413": "The body is too large.",
    "415": "The body is not `application/json`.",
}
NOT_FOUND = {"404": "There is none of that name."}
NOT_KEPT = {"409": "Nothing is kept here: the server has no database."}


@dataclass(frozen=True, kw_only=True)
class AdminRoute:
    """`takes` is the type of its body, `asks` that of its query, `gives` that of its answer; None is nothing.

    `headers` are those that it reads, with what they do; `otherwise` describes further media types of the answer.
    """

    method: str
    path: str
    answer: Callable[..., Awaitable[Response]]
    summary: str
    gives: Any = None
    status: int = 200
    takes: Any = None
    asks: type | None = None
    kept: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    otherwise: Mapping[str, str] = field(default_factory=dict)

    def add_to(self, router: APIRouter) -> None:
        router.add_api_route(
            self.path,
            self.answer,
            methods=[self.method],
            summary=self.summary,
            status_code=self.status,
            response_class=Response,
            openapi_extra=self.described(),
        )

    def described(self) -> dict[str, Any]:
        extra: dict[str, Any] = {**openapi.CLOSED, "responses": self._responses()}
        parameters = [*self._in_path(), *([] if self.asks is None else _in_query(self.asks)), *self._in_head()]
        if parameters:
            extra["parameters"] = parameters
        if self.takes is not None:
            extra["requestBody"] = {"required": True, "content": {JSON: {"schema": schema(self.takes)}}}
        return extra

    def _responses(self) -> dict[str, Any]:
        good: dict[str, Any] = {"description": "Done." if self.gives is None else f"{self.summary}."}
        if self.gives is not None:
            others = {kind: {"schema": {"type": "string"}, "example": text} for kind, text in self.otherwise.items()}
            good["content"] = {JSON: {"schema": schema(self.gives)}, **others}
        error = {JSON: {"schema": {"$ref": openapi.REFERENCE.format(name=ErrorBody.__name__)}}}
        return {
            str(self.status): good,
            **{status: {"description": text, "content": error} for status, text in self._errors().items()},
        }

    def _errors(self) -> dict[str, str]:
        return dict(
            sorted(
                {
                    **ALWAYS,
                    **(NOT_KEPT if self.kept else {}),
                    **(OF_A_QUERY if self.asks or self.takes else {}),
                    **(OF_A_BODY if self.takes else {}),
                    **(NOT_FOUND if "{" in self.path else {}),
                }.items()
            )
        )

    def _in_path(self) -> list[dict[str, Any]]:
        names = [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
        return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]

    def _in_head(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in self.headers.items()
        ]


def schema(kind: Any) -> dict[str, Any]:
    """With everything that it refers to written in its place. What is of no type that JSON has is a secret's text."""
    found = msgspec.json.schema(kind, schema_hook=lambda _: {"type": "string", "writeOnly": True})
    whole: dict[str, Any] = _whole(found, found.pop("$defs", {}))
    return whole


def _whole(part: Any, named: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_whole(inner, named) for inner in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _whole(named[part["$ref"].rpartition("/")[2]], named)
    return {name: _whole(inner, named) for name, inner in part.items()}


def _in_query(kind: type) -> list[dict[str, Any]]:
    described = schema(kind)
    needed = described.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in needed, **_with_its_text(inner)}
        for name, inner in described["properties"].items()
    ]


def _with_its_text(described: dict[str, Any]) -> dict[str, Any]:
    """Beside the schema, where a parameter has it."""
    choices = [choice for choice in described.get("anyOf", ()) if choice.get("type") != "null"]
    inner = {**(choices[0] if choices else described)}
    if inner.get("default", "") is None:
        del inner["default"]
    text = inner.pop("description", None) or described.get("description")
    return {"schema": inner, **({} if text is None else {"description": text})}
