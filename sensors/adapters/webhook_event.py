"""What a webhook's event is made of: ids, captured texts, and the scope of its expressions. Pure."""

import hashlib
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from sensors.adapters.webhook_options import SECRET
from sensors.batch import Batch, DeadLetter
from sensors.cloudevents import Envelope
from sensors.errors import Refused
from sensors.event import EMPTY, parse_data, storable_text
from sensors.headers import is_secret, safe_text
from sensors.sensor import Request
from sensors.w3c import one_traceparent, parse_traceparent, parse_tracestate

MAX_ID: Final = 1024  # bytes; an index of PostgreSQL takes 2,700
EXPRESSION_FAILED: Final = "expression_failed"
_MAX_QUERY: Final = 8192
_MAX_PARAMETER: Final = 1024
_QUERY: Final = "query."
_MATCH: Final = "match."  # begins the names, in a dead letter, of what the path captured


class OursFailed(Exception):
    """An expression of the configuration could not be evaluated on this delivery."""


def id_of(text: str) -> str:
    """Return an id that an index can hold: longer ones become their hash, the same every time."""
    if len(text) * 4 <= MAX_ID or len(text.encode("utf-8", "replace")) <= MAX_ID:
        return text
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def evaluated_id(value: Any) -> str:
    """Return what `id:` gave as an id. Raises OursFailed."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return id_of(evaluated_text(value, "id"))


def evaluated_text(value: Any, what: str) -> str:
    """Return what an expression gave as text that may be stored. Raises OursFailed."""
    if not isinstance(value, str) or not value:
        raise OursFailed(f"`{what}` gave {type(value).__name__} instead of text")
    if not storable_text(value):
        raise OursFailed(f"`{what}` gave text with NUL or a lone surrogate")
    return value


def provided_id(id_: str) -> str:
    """Return the provider's delivery id. Raises Refused(400) when it is no plain text."""
    if not id_.isascii() or not id_.isprintable():
        raise Refused(400, "bad_id", "the delivery id is no plain text", public="bad delivery id")
    return id_of(id_)


def captured(request: Request, secrets: tuple[bytes, ...]) -> Mapping[str, str]:
    """Return what stood in the path's `{name}`s, without the secret. Raises Refused(404) when that is wrong."""
    params = request.params
    if secrets:
        given = params.get(SECRET, "").encode("utf-8", "surrogatepass")
        if True not in [compare_digest(given, secret) for secret in secrets]:
            raise Refused(404, "path_secret", "the secret in the path is wrong")
    if not params:
        return EMPTY
    return {name: safe_text(value)[:_MAX_PARAMETER] for name, value in params.items() if name != SECRET}


def source_of(path: str, params: Mapping[str, str]) -> str:
    """Return the endpoint's path with what was captured in it; a secret stays `{secret}`."""
    for name, value in params.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def add_query(query: str, attributes: dict[str, str]) -> None:
    """Add query parameters as `query.<name>`; secrets are left out, repeated ones joined."""
    for name, value in _pairs(query):
        if not is_secret(name.lower()):
            key = safe_text(f"query.{name}")
            attributes[key] = f"{attributes[key]}, {safe_text(value)}" if key in attributes else safe_text(value)


def scope_of(
    request: Request, body: bytes | None, content_type: str | None, match: Mapping[str, str]
) -> dict[str, Any]:
    """Return what expressions see of a delivery. Raises what parsing the body raises."""
    headers = {name: ", ".join(values) for name, values in request.headers.items() if not is_secret(name)}
    query = {name: value for name, value in _pairs(request.query) if not is_secret(name.lower())}
    return {"body": parse_data(body, content_type), "headers": headers, "query": query, "match": dict(match)}


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query[:_MAX_QUERY], keep_blank_values=True, max_num_fields=64)
    except ValueError:
        return []


def trace_of(request: Request, envelope: Envelope | None) -> tuple[str | None, str | None]:
    """Return the producer's context, (traceparent, tracestate): the request's own, else the CloudEvent's."""
    headers = request.headers
    if (text := one_traceparent(headers.get("traceparent"))) is not None:
        return text, parse_tracestate(headers.get("tracestate"))
    if envelope is not None and (text := envelope.extensions.get("traceparent")) is not None:
        parsed = parse_traceparent(text)
        state = envelope.extensions.get("tracestate")
        return (None, None) if parsed is None else (parsed.text, parse_tracestate((state,) if state else None))
    return None, None


def unjudged(
    request: Request,
    content_type: str | None,
    error: Exception,
    attributes: Mapping[str, str] = EMPTY,
    match: Mapping[str, str] = EMPTY,
) -> Batch:
    """Return the batch of a delivery on which an expression of ours failed: a dead letter, so that it is not lost.

    It keeps what an event would say of the delivery, so that it can be read again.
    """
    letter = DeadLetter(
        EXPRESSION_FAILED,
        safe_text(f"{type(error).__name__}: {error}" if not isinstance(error, OursFailed) else str(error))[:2000],
        request.path,
        request.body,
        content_type,
        attributes={**attributes, **{f"{_MATCH}{name}": text for name, text in match.items()}},
    )
    return Batch(dead_letters=(letter,))


def delivery_of(letter: DeadLetter, at: int) -> tuple[Request, Mapping[str, str]]:
    """Return the delivery that a letter kept, as it was after its verification, and what its path had captured."""
    headers: dict[str, list[str]] = {}
    query: list[tuple[str, str]] = []
    match: dict[str, str] = {}
    for name, text in letter.attributes.items():
        if name.startswith(_MATCH):
            match[name.removeprefix(_MATCH)] = text
        elif name.startswith(_QUERY):
            query.append((name.removeprefix(_QUERY), text))
        elif name != "content-encoding":  # the body was decoded before it was kept
            headers[name] = [text]
    if letter.content_type is not None:
        headers["content-type"] = [letter.content_type]
    request = Request(
        method="POST",
        path=letter.position,
        query=urlencode(query),
        headers=headers,
        body=letter.payload,
        client="",
        received_at=at,
    )
    return request, match
