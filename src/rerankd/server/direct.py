"""Rerank requests go to their endpoint by one look into a table; everything else goes the framework's way.

The framework's way to a route goes through six layers at each request. The routes are the router's as well: that is where
another method than POST is refused, and where a path with parameters is matched.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send


class Direct:
    def __init__(self, endpoints: Mapping[str, ASGIApp], app: ASGIApp) -> None:
        """`endpoints` by their exact paths; `app` answers all others."""
        self._endpoints = endpoints
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope.get("path", "")) if scope.get("method") == "POST" else None
        await (endpoint or self._app)(scope, receive, send)
