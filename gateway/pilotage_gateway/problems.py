"""Errors as answers: which error of the tree has which HTTP status, and its Problem body."""

import math

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pilotage_core.errors import (
    ConflictError,
    InvalidInputError,
    PilotageError,
    UnavailableError,
)
from pilotage_core.problem import Problem, describe_problem
from pilotage_gateway.access import ForbiddenError, UnauthorizedError

RETRY_AFTER_SECONDS = 1.0


class MalformedError(InvalidInputError):
    """A body that is not JSON."""


class MediaTypeError(InvalidInputError):
    """A body of another media type."""


class TooLargeError(InvalidInputError):
    """A body, or a part of one, over a limit."""


class UnknownError(InvalidInputError):
    """A session, proposal or process cluster that the records do not have."""


STATUS: dict[type[PilotageError], int] = {
    UnauthorizedError: 401,
    ForbiddenError: 403,
    MalformedError: 400,
    UnknownError: 404,
    ConflictError: 409,
    TooLargeError: 413,
    MediaTypeError: 415,
    InvalidInputError: 422,
    UnavailableError: 503,
}


def build_problem(status: int, problem: Problem) -> Response:
    """An answer that says what is wrong, where, and what to do."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if problem.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(problem.retry_after_seconds))
    return Response(msgspec.json.encode(problem), status, headers, "application/problem+json")


async def answer_error(_request: Request, error: Exception) -> Response:
    """Starlette's handler for errors of our tree."""
    assert isinstance(error, PilotageError)
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    retry = RETRY_AFTER_SECONDS if status == 503 else None
    problem = describe_problem(type(error).__name__, status, error.what, error.where, error.remedy, retry)
    return build_problem(status, problem)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for unknown paths and methods."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    answer = build_problem(
        error.status_code, describe_problem("NoEndpointError", error.status_code, error.detail, where)
    )
    answer.headers.update(error.headers or {})  # of 405: Allow
    return answer


async def answer_fault(request: Request, _error: Exception) -> Response:
    """A fault of the gateway itself: Starlette logs its trace; the caller may send the same again."""
    problem = describe_problem(
        "InternalError", 500, "the gateway has a fault; its log says more", request.url.path, "", RETRY_AFTER_SECONDS
    )
    return build_problem(500, problem)
