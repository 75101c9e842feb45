"""The OpenAPI document, exact: every error an operation can answer is a problem, and nothing else is promised."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tidegate.api.problems import MEDIA_TYPE, Problem

_ALWAYS = (401, 403, 429, 503)
_DESCRIPTIONS = {
    400: "The body is no JSON.",
    401: "A token is needed, and none in force came.",
    403: "The token may not do this, or the request comes from elsewhere.",
    429: "Too much waits already; see Retry-After.",
    503: "The store cannot answer now; see Retry-After.",
}
_OWN = ("HTTPValidationError", "ValidationError")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare the problems that a route can answer besides those that every route can; 413 and 400 go together."""
    unreadable = (400,) if 413 in statuses else ()
    return {
        status: {
            "description": _DESCRIPTIONS.get(status, HTTPStatus(status).phrase),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in (*statuses, *unreadable, *_ALWAYS)
    }


def install(app: FastAPI) -> None:
    """Make `app.openapi()` tell the truth about errors and tokens; made once, when first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change the document


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _OWN:
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["Problem"] = problem
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "Not needed on a loopback bind."}
    }
    document["security"] = [{"token": []}, {}]
    return document
