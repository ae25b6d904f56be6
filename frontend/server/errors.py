"""Every failure as an answer: status, headers and a body of OpenAI's shape, with one `type` for each status.

| error | status |
|---|---|
| ValidationError, SchemaError, malformed HTTP | 400 |
| wrong or missing key | 401 |
| a browser's origin that may not call, a host that is not served | 403 |
| unknown model or route | 404 |
| a method that the route does not have | 405 |
| a body that takes too long to come | 408 |
| body too large | 413 |
| a content encoding that is not understood | 415 |
| an unknown Expect header | 417 |
| PluginInputError: data that is not of the type a plugin declares | 422 |
| QueueFullError | 429 and Retry-After |
| RequestFailedError, anything unforeseen | 500; a RequestRefusedError is not to be tried again |
| a route that the model is not for, a transfer encoding that is not understood | 501 |
| EngineDeadError, PluginUnavailableError, starting, draining | 503 and Retry-After |
| RequestTimeoutError | 504, not to be tried again |
"""

from __future__ import annotations

import logging
import math
from http import HTTPStatus

import msgspec
from aiohttp import hdrs, web

from octavo.errors import (
    EngineDeadError,
    OctavoError,
    PluginInputError,
    PluginUnavailableError,
    QueueFullError,
    RequestFailedError,
    RequestRefusedError,
    RequestTimeoutError,
    ValidationError,
)

logger = logging.getLogger(__name__)

RETRY_AFTER_UNAVAILABLE = 5
SERVER_NAME = "octavo"
COMMON_HEADERS = {hdrs.SERVER: SERVER_NAME, "X-Content-Type-Options": "nosniff"}
"""Of every answer: who it is from, and that a browser must not take its body for something else than it says."""

_TYPES = {
    HTTPStatus.BAD_REQUEST: "BadRequestError",
    HTTPStatus.UNAUTHORIZED: "AuthenticationError",
    HTTPStatus.FORBIDDEN: "PermissionDeniedError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowedError",
    HTTPStatus.REQUEST_TIMEOUT: "RequestTimeoutError",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestTooLargeError",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UnsupportedMediaTypeError",
    HTTPStatus.EXPECTATION_FAILED: "ExpectationFailedError",
    HTTPStatus.UNPROCESSABLE_ENTITY: "UnprocessableEntityError",
    HTTPStatus.TOO_MANY_REQUESTS: "RateLimitError",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerError",
    HTTPStatus.NOT_IMPLEMENTED: "NotImplementedError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
    HTTPStatus.GATEWAY_TIMEOUT: "TimeoutError",
}
"""The `type` of each status the server answers."""

_CODES = {HTTPStatus.UNAUTHORIZED: "invalid_api_key", HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_exceeded"}
"""OpenAI's words for all errors of a status; the others have a word of their own, or the status as their code."""


class ErrorInfo(msgspec.Struct):
    """The inside of an error body."""

    message: str
    type: str
    param: str | None
    code: int | str
    """OpenAI's word, where it has one; else the status."""


class ErrorResponse(msgspec.Struct):
    """{"error": {"message", "type", "param", "code"}}"""

    error: ErrorInfo


class SchemaError(ValidationError):
    """A body that is no JSON, or does not fit the endpoint's schema."""


class ApiError(OctavoError):
    """An answer other than 2xx that the server itself decides on."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.headers = headers or {}

    @property
    def kind(self) -> str:
        """The body's `type`."""
        known = _TYPES.get(HTTPStatus(self.status))
        return known or "".join(filter(str.isalpha, HTTPStatus(self.status).phrase.title())) + "Error"


def model_not_found(model: str, served: tuple[str, ...]) -> ApiError:
    """404 for a model name that is not served here."""
    message = f"The model {model[:200]!r} does not exist; served: {', '.join(served)}."
    return ApiError(404, message, code="model_not_found", param="model")


def unavailable(message: str) -> ApiError:
    """503: the engine is starting, draining or gone; another attempt may find it well."""
    return ApiError(503, message, retry_after=RETRY_AFTER_UNAVAILABLE)


def describe(error: BaseException) -> ApiError:
    """The answer that an exception becomes; logs what is our fault."""
    match error:
        case ApiError():
            return error
        case PluginInputError():
            return ApiError(422, str(error), param=error.parameter)
        case ValidationError():
            return ApiError(400, str(error), code=error.code, param=error.parameter)
        case QueueFullError():
            return ApiError(429, str(error), retry_after=error.retry_after)
        case RequestTimeoutError():
            return ApiError(504, str(error) or "the request timed out")
        case EngineDeadError() | PluginUnavailableError():
            return unavailable(str(error))
        case RequestRefusedError():
            return ApiError(500, str(error), headers={"x-should-retry": "false"})
        case RequestFailedError():
            return ApiError(500, str(error))
        case web.HTTPException():
            return _from_http(error)
    logger.error("unexpected error while serving a request", exc_info=error)
    return ApiError(500, "internal server error")


def error_body(error: ApiError) -> bytes:
    """The JSON body of an error."""
    code = error.code or _CODES.get(HTTPStatus(error.status)) or error.status
    return msgspec.json.encode(ErrorResponse(ErrorInfo(_encodable(str(error)), error.kind, error.param, code)))


def error_response(error: ApiError) -> web.Response:
    """A whole answer, for errors before anything was sent."""
    response = web.Response(status=error.status, body=error_body(error), content_type="application/json", headers=error.headers)
    response.headers.update(COMMON_HEADERS)
    if hdrs.CONNECTION in error.headers:
        response.force_close()
    if error.retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(error.retry_after)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    if error.status == HTTPStatus.GATEWAY_TIMEOUT:
        # What took too long once does so again, and OpenAI's client would try it twice more.
        response.headers["x-should-retry"] = "false"
    return response


def _encodable(text: str) -> str:
    """A message may quote what a client sent, and half of a surrogate pair has no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _from_http(error: web.HTTPException) -> ApiError:
    match error:
        case web.HTTPNotFound():
            return ApiError(404, "there is no such route")
        case web.HTTPMethodNotAllowed():
            allowed = sorted(error.allowed_methods)
            message = f"method {error.method} is not allowed; allowed: {', '.join(allowed)}"
            return ApiError(405, message, headers={hdrs.ALLOW: ",".join(allowed)})
        case web.HTTPExpectationFailed():
            return ApiError(417, "the only expectation understood is Expect: 100-continue")
    return ApiError(error.status, error.reason)
