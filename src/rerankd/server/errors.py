"""An error becomes a status, a body and headers here and nowhere else; the exception's own text stays in the log."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from rerankd.dialects import root_error
from rerankd.errors import BadRequest, ClientError, EngineError, MethodNotAllowed, NotFound, RerankError

Render = Callable[[RerankError], tuple[int, bytes]]
LONGEST_PATH = 200


def error_response(error: RerankError, render: Render = root_error.render) -> Response:
    status, body = render(error)
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(body, status, headers, "application/json")


def install_errors(app: FastAPI) -> None:
    """Answer every error of `app` that no route has answered, in the shape of the root paths."""

    async def rerank_error(_: Request, error: RerankError) -> Response:
        return error_response(error)

    async def http_error(request: Request, error: HTTPException) -> Response:
        response = error_response(_of_status(request, error.status_code))
        response.headers.update(error.headers or {})
        return response

    async def any_error(request: Request, _: Exception) -> Response:
        response = error_response(EngineError("rerankd failed on this request; its log says more."))
        response.headers["x-request-id"] = request.state.request_id  # this one is outside of RequestIds
        return response

    app.exception_handler(RerankError)(rerank_error)
    app.exception_handler(HTTPException)(http_error)
    app.exception_handler(Exception)(any_error)


def _of_status(request: Request, status: int) -> ClientError:
    if status == 404:
        return NotFound(f"There is nothing at {request.scope['path'][:LONGEST_PATH]}; /docs lists what is.")
    if status == 405:
        return MethodNotAllowed(
            f"{request.method} is not for {request.scope['path'][:LONGEST_PATH]}; /docs says what is."
        )
    return BadRequest("The request cannot be understood.")
