"""Errors as RFC 9457 problem details: one shape for everything that is not 2xx, FastAPI's own errors included.

What a caller sent is never echoed but for the place in it that is wrong; what failed inside is told to the log only.
"""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipelines.errors import ParameterError
from sensors.ports import Overloaded, Unavailable
from tidegate.store.tx import ItemRefused

MEDIA_TYPE = "application/problem+json"
_TEXT_KEPT = 400


class Fault(BaseModel):
    """One thing wrong with a request: where, and what would be right."""

    pointer: str = Field(description="Where: `query.limit`, `path.uid`, `body.params`.")
    detail: str


class Problem(BaseModel):
    """A problem as RFC 9457 describes it."""

    type: str = Field(default="about:blank", description="Always `about:blank`: the status says the kind.")
    title: str = Field(description="The status' standard phrase.")
    status: int
    detail: str | None = Field(default=None, description="A sentence that names the remedy.")
    errors: list[Fault] | None = Field(default=None, description="All that is wrong with the request, when several.")


class ApiError(Exception):
    """An answer that is not 2xx: status, a sentence that names the remedy, and headers."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, errors: Sequence[Fault] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.errors = tuple(errors)


def not_found(what: str) -> ApiError:
    """Say that something does not exist (or is no longer kept)."""
    return ApiError(404, f"there is no {printable(what)}")


def printable(text: str) -> str:
    """Return text from outside fit for an answer: bounded, on one line, without what UTF-8 cannot hold."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:_TEXT_KEPT])
    return clean.encode("utf-8", "replace").decode()


def problem_body(status: int, detail: str | None = None, errors: Sequence[Fault] = ()) -> bytes:
    """Encode a problem."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        body["detail"] = detail
    if errors:
        body["errors"] = [fault.model_dump() for fault in errors]
    return orjson.dumps(body)


def problem(
    status: int, detail: str | None = None, headers: Mapping[str, str] | None = None, errors: Sequence[Fault] = ()
) -> Response:
    """Build a problem's response."""
    return Response(problem_body(status, detail, errors), status, dict(headers or {}), MEDIA_TYPE)


def retry_after(seconds: float) -> dict[str, str]:
    """Return the Retry-After header: whole seconds, rounded up, at least one."""
    return {"Retry-After": str(max(1, math.ceil(min(seconds, 3600.0))))}


def from_error(error: Exception) -> Response | None:
    """Return the answer for an error whose meaning is known, None for one of ours."""
    if isinstance(error, ApiError):
        return problem(error.status, str(error), error.headers, error.errors)
    if isinstance(error, Overloaded):
        return problem(429, "too much waits already; try again later", retry_after(error.retry_after))
    if isinstance(error, Unavailable):
        return problem(503, "the store cannot answer now; try again later", retry_after(error.retry_after))
    if isinstance(error, ParameterError):
        return problem(422, printable(str(error)), errors=[Fault(pointer="body.params", detail=printable(str(error)))])
    if isinstance(error, ItemRefused):
        return problem(422, "the store cannot hold this text or value")
    return None


def _wrong(item: Mapping[str, Any]) -> str:
    """Say what is wrong with one part of a request."""
    if item["type"] == "string_pattern_mismatch" and item["loc"] == ("path", "uid"):
        return "it is no such uid: those are a prefix such as evt_ or run_, and 26 characters"
    return printable(item["msg"])


def install(app: FastAPI) -> None:
    """Answer with problems wherever FastAPI and Starlette would answer with their own shapes."""

    async def known(_: Request, error: Exception) -> Response:
        answer = from_error(error)
        if answer is None:
            raise error
        return answer

    async def http(_: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else None
        return problem(error.status_code, None if detail is None else printable(detail), error.headers)

    async def invalid(_: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        faults = [
            Fault(pointer=printable(".".join(str(step) for step in item["loc"])), detail=_wrong(item))
            for item in error.errors()[:20]
        ]
        detail = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults[:3])
        return problem(422, detail, errors=faults)

    for kind in (ApiError, Unavailable, ParameterError, ItemRefused):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
