"""Every failure as an answer: status, headers and a body of OpenAI's shape.

| error | status |
|---|---|
| ValidationError, SchemaError | 400 |
| wrong or missing key | 401 |
| unknown model or route | 404 |
| body too large | 413 |
| QueueFullError | 429 and Retry-After |
| RequestFailedError, anything unforeseen | 500 |
| EngineDeadError, starting, draining | 503 and Retry-After |
| RequestTimeoutError | 504 |
"""

from __future__ import annotations

import logging
import math
from http import HTTPStatus

import msgspec
from aiohttp import web

from octavo.errors import EngineDeadError, OctavoError, QueueFullError, RequestFailedError, RequestTimeoutError, ValidationError

logger = logging.getLogger(__name__)

RETRY_AFTER_UNAVAILABLE = 5


class ErrorInfo(msgspec.Struct):
    """The inside of an error body."""

    message: str
    type: str
    param: str | None
    code: int


class ErrorResponse(msgspec.Struct):
    """{"error": {"message", "type", "param", "code"}}"""

    error: ErrorInfo


class SchemaError(ValidationError):
    """A body that is no JSON, or does not fit the endpoint's schema."""


class ApiError(OctavoError):
    """An answer other than 2xx that the server itself decides on."""

    def __init__(
        self, status: int, message: str, *, kind: str = "", param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind or HTTPStatus(status).phrase
        self.param = param
        self.retry_after = retry_after


def model_not_found(model: str, served: tuple[str, ...]) -> ApiError:
    """404 for a model name that is not served here."""
    message = f"The model {model[:200]!r} does not exist; served: {', '.join(served)}."
    return ApiError(404, message, kind="NotFoundError", param="model")


def unavailable(message: str) -> ApiError:
    """503: the engine is starting, draining or gone; another attempt may find it well."""
    return ApiError(503, message, kind="ServiceUnavailableError", retry_after=RETRY_AFTER_UNAVAILABLE)


def describe(error: BaseException) -> ApiError:
    """The answer that an exception becomes; logs what is our fault."""
    match error:
        case ApiError():
            return error
        case SchemaError():
            return ApiError(400, str(error), param=error.parameter)
        case ValidationError():
            return ApiError(400, str(error), kind="BadRequestError", param=error.parameter)
        case QueueFullError():
            return ApiError(429, str(error), kind="RateLimitError", retry_after=error.retry_after)
        case RequestTimeoutError():
            return ApiError(504, str(error) or "the request timed out", kind="TimeoutError")
        case EngineDeadError():
            return unavailable(str(error))
        case RequestFailedError():
            return ApiError(500, str(error), kind="InternalServerError")
        case web.HTTPException():
            return _from_http(error)
    logger.error("unexpected error while serving a request", exc_info=error)
    return ApiError(500, "internal server error", kind="InternalServerError")


def error_body(error: ApiError) -> bytes:
    """The JSON body of an error."""
    return msgspec.json.encode(ErrorResponse(ErrorInfo(str(error), error.kind, error.param, error.status)))


def error_response(error: ApiError) -> web.Response:
    """A whole answer, for errors before anything was sent."""
    response = web.Response(status=error.status, body=error_body(error), content_type="application/json")
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _from_http(error: web.HTTPException) -> ApiError:
    match error:
        case web.HTTPNotFound():
            return ApiError(404, "there is no such route")
        case web.HTTPMethodNotAllowed():
            return ApiError(405, f"method {error.method} is not allowed; allowed: {', '.join(sorted(error.allowed_methods))}")
        case web.HTTPRequestEntityTooLarge():
            return ApiError(413, "the request body is larger than --max-body-size")
    return ApiError(error.status, error.reason)
