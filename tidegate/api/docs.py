"""`/api/docs`: the OpenAPI document as one readable page, rendered here: no script, no content from elsewhere."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from tidegate.web.html import Html, page, tag

router = APIRouter(include_in_schema=False)
_METHODS = ("get", "post", "put", "patch", "delete")


@router.get("/api/docs")
async def api_docs(request: Request) -> HTMLResponse:
    """Render the document."""
    return page("API", api_page(request.app.openapi()))


def api_page(document: Mapping[str, Any]) -> Html:
    """Render an OpenAPI document."""
    info = document["info"]
    groups: dict[str, list[Html]] = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                operation = item[method]
                group = (operation.get("tags") or ["other"])[0]
                groups.setdefault(group, []).append(_operation(method, path, operation, document))
    return tag("div")(
        tag("h1")(f"{info['title']} API ", tag("small")(info["version"])),
        tag("p", cls="muted")(info.get("description", "").replace("`", "")),
        tag("p")(tag("a", href="/api/openapi.json")("openapi.json")),
        *(tag("section")(tag("h2")(name), *operations) for name, operations in groups.items()),
    )


def _operation(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> Html:
    return tag("details", cls="op")(
        tag("summary")(
            tag("b", cls=f"method {method}")(method.upper()),
            " ",
            tag("code")(path),
            " ",
            tag("span", cls="muted")(operation.get("summary", "")),
        ),
        tag("p")(operation.get("description", "").replace("`", "")),
        *_parameters(operation),
        *_body(operation, document),
        _answers(operation),
    )


def _parameters(operation: Mapping[str, Any]) -> Iterator[Html]:
    parameters = operation.get("parameters")
    if parameters:
        rows = [
            tag("tr")(
                tag("td")(tag("code")(item["name"])),
                tag("td")(item["in"], ", required" if item.get("required") else ""),
                tag("td")(_kind(item.get("schema", {}))),
                tag("td")(item.get("description", "")),
            )
            for item in parameters
        ]
        yield tag("table")(tag("tbody")(*rows))


def _body(operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[Html]:
    content = operation.get("requestBody", {}).get("content", {})
    for media, body in content.items():
        schema = _resolved(body.get("schema", {}), document)
        rows = [
            tag("tr")(
                tag("td")(tag("code")(name)),
                tag("td")("required" if name in schema.get("required", ()) else ""),
                tag("td")(_kind(part)),
                tag("td")(part.get("description", "")),
            )
            for name, part in schema.get("properties", {}).items()
        ]
        yield tag("p", cls="muted")("body, ", media)
        yield tag("table")(tag("tbody")(*rows))


def _answers(operation: Mapping[str, Any]) -> Html:
    parts: list[Html | str] = []
    for status, answer in operation.get("responses", {}).items():
        names = {_kind(media.get("schema", {})) for media in answer.get("content", {}).values()}
        parts.append(tag("span", cls="answer")(tag("b")(status), " ", ", ".join(sorted(filter(None, names)))))
    return tag("p")(*parts)


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow one reference, through an optional one too."""
    for part in (schema, *schema.get("anyOf", ())):
        name = part.get("$ref", "").rpartition("/")[2]
        if name:
            found: Mapping[str, Any] = document["components"]["schemas"][name]
            return found
    return schema


def _kind(schema: Mapping[str, Any]) -> str:
    """Name a schema in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(filter(None, (_kind(part) for part in schema["anyOf"]))))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    return str(schema.get("format") or schema.get("type") or "")
