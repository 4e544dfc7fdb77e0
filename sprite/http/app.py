"""The ASGI application: routes, and what each kind of refusal looks like on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contract.errors import ContractError, ErrorCode
from sprite.control import SpriteController
from sprite.errors import SpriteError
from sprite.http.auth import Authenticator
from sprite.http.endpoints import Endpoints
from sprite.http.exchange import Exchanges
from sprite.http.metrics import Metrics
from sprite.http.operations import OPERATIONS
from sprite.http.requests import RequestProblem
from sprite.http.responses import error_response
from sprite.http.settings import ServiceSettings
from sprite.reader import SpriteReader


def create_app(
    reader: SpriteReader,
    controller: SpriteController,
    token: str,
    *,
    settings: ServiceSettings | None = None,
    stopping: asyncio.Event | None = None,
) -> Starlette:
    """The service of one repo as an ASGI application.

    Args:
        token: The service token; every endpoint asks for it.
        stopping: When set, long polls and waits for confirmation end at once.

    Raises:
        TokenInvalid: The token is empty or cannot be carried by a header.
    """
    settings = settings or ServiceSettings()
    metrics = Metrics()
    endpoints = Endpoints(reader, controller, settings, stopping or asyncio.Event(), metrics)
    errors = _Errors(reader.sprite_id)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        endpoints.close()

    app = Starlette(
        routes=[
            Route(operation.route, getattr(endpoints, operation.endpoint), methods=[operation.method])
            for operation in OPERATIONS
        ],
        middleware=[
            Middleware(
                Exchanges,
                authenticator=Authenticator(token),
                sprite_id=reader.sprite_id,
                settings=settings,
                metrics=metrics,
            )
        ],
        exception_handlers={
            SpriteError: errors.sprite_error,
            ContractError: errors.contract_error,
            RequestProblem: errors.request_problem,
            HTTPException: errors.http_exception,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


class _Errors:
    """The answer to each kind of exception, as the contract words it."""

    def __init__(self, sprite_id: str) -> None:
        self._sprite_id = sprite_id

    async def sprite_error(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, SpriteError)  # noqa: S101  (registered for this type)
        return error_response(error.code, error.message, sprite_id=self._sprite_id, **error.fields)

    async def contract_error(self, _: Request, error: Exception) -> Response:
        return self._answer(ErrorCode.INVALID_REQUEST, str(error))

    async def request_problem(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, RequestProblem)  # noqa: S101  (registered for this type)
        return self._answer(error.code, error.message)

    async def http_exception(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  (registered for this type)
        if error.status_code == 405:
            response = self._answer(
                ErrorCode.METHOD_NOT_ALLOWED, f"method {request.method} is not allowed for this endpoint"
            )
            response.headers.update(error.headers or {})
            return response
        return self._answer(ErrorCode.NOT_FOUND, "endpoint not found")

    def _answer(self, code: ErrorCode, message: str) -> Response:
        return error_response(code, message, sprite_id=self._sprite_id)
