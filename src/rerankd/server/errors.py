"""An error becomes a status, a body and headers here and nowhere else; the exception's own text stays in the log.

What no route has answered is answered in the format of the path's prefix, or of the root paths.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from rerankd.dialects import root_error
from rerankd.errors import BadRequest, ClientError, EngineError, MethodNotAllowed, NotFound, RerankError
from rerankd.server.routes import prefixes, rerank_routes

Render = Callable[[RerankError, str], tuple[int, bytes]]
LONGEST_PATH = 200


def error_response(error: RerankError, render: Render, request_id: str) -> Response:
    status, body = render(error, request_id)
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, ceil(error.retry_after)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(body, status, headers, "application/json")


def install_errors(app: FastAPI) -> None:
    """Answer every error of `app` that no route has answered."""
    by_path = {route.path: route.dialect.render_error for route in rerank_routes()}
    by_prefix = {prefix: dialect.render_error for prefix, dialect in prefixes().items()}

    def response(request: Request, error: RerankError) -> Response:
        request.state.facts.error = error.code
        path = request.scope["path"]
        render = by_path.get(path) or by_prefix.get(path.split("/")[1]) or _at_the_root
        return error_response(error, render, request.state.request_id)

    async def rerank_error(request: Request, error: RerankError) -> Response:
        return response(request, error)

    async def http_error(request: Request, error: HTTPException) -> Response:
        answer = response(request, _of_status(request, error.status_code))
        answer.headers.update(error.headers or {})
        return answer

    async def any_error(request: Request, _: Exception) -> Response:
        return response(request, EngineError("rerankd failed on this request; its log says more."))

    app.exception_handler(RerankError)(rerank_error)
    app.exception_handler(HTTPException)(http_error)
    app.exception_handler(Exception)(any_error)


def _at_the_root(error: RerankError, _: str) -> tuple[int, bytes]:
    return root_error.render(error)


def _of_status(request: Request, status: int) -> ClientError:
    if status == 404:
        return NotFound(f"There is nothing at {request.scope['path'][:LONGEST_PATH]}; /docs lists what is.")
    if status == 405:
        return MethodNotAllowed(
            f"{request.method} is not for {request.scope['path'][:LONGEST_PATH]}; /docs says what is."
        )
    return BadRequest("The request cannot be understood.")
