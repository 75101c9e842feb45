"""What a request's body is said to be, and JSON that is checked before it is kept.

Strangers choose media types and bodies: what is remembered of them has an end, and nothing is recursive.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import Field

from sensors.errors import Refused
from sensors.headers import safe_text

MAX_DEPTH = 128
DEFAULT_TYPES = (
    *("application/json", "text/*", "*+json", "application/x-www-form-urlencoded", "application/octet-stream"),
    "application/cloudevents",
)
_LEARN = 256  # media types remembered

MediaRange = Annotated[str, Field(pattern=r"^(\*/\*|\*\+json|[A-Za-z0-9!#$&^_.+-]+/(\*|[A-Za-z0-9!#$&^_.+-]+))$")]


@dataclass(frozen=True, slots=True)
class Media:
    """What a Content-Type means.

    `text` is the header as it may be stored; `structured` a CloudEvent in JSON, `batch` a list of such.
    """

    allowed: bool
    json: bool
    structured: bool
    batch: bool
    text: str | None


class MediaTypes:
    """Reads Content-Type headers against a list of allowed ranges; remembers what it read, up to a bound."""

    def __init__(self, allowed: Sequence[str], *, batch: bool = False) -> None:
        """`batch`: batches of CloudEvents are asked for; nobody may send them otherwise."""
        self._allowed = tuple(wanted.lower() for wanted in allowed)
        self._batch = batch
        self._known: dict[str | None, Media] = {}

    def of(self, content_type: str | None) -> Media:
        """Return what a header means; None is a request without one, which is allowed."""
        known = self._known.get(content_type)
        return self._read(content_type) if known is None else known

    def _read(self, content_type: str | None) -> Media:
        text = None if content_type is None else content_type.strip()
        name = (text or "").split(";", 1)[0].strip().lower()
        structured = name in ("application/cloudevents+json", "application/cloudevents")
        batch = self._batch and name in ("application/cloudevents-batch+json", "application/cloudevents-batch")
        allowed = not name or any(_in_range(name, wanted) for wanted in self._allowed)
        if name.startswith("application/cloudevents") and not structured:  # batches and other formats
            allowed = batch
        is_json = name.endswith("+json") or structured or batch or name in ("application/json", "text/json")
        media = Media(allowed, is_json, structured, batch, safe_text(text[:256]) if text else None)
        if len(self._known) < _LEARN:
            self._known[content_type] = media
        return media


def _in_range(name: str, wanted: str) -> bool:
    if wanted in ("*/*", name):
        return True
    if wanted == "application/json":
        return name == "text/json"
    if wanted == "*+json":
        return name.endswith("+json")
    if wanted == "application/cloudevents":
        return name == "application/cloudevents+json"
    return wanted.endswith("/*") and name.startswith(wanted[:-1])


def parse_json(body: bytes) -> Any:
    """Parse a body that promises JSON. Raises Refused(400) when it is none, or too deep."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _odd_json(body, error)
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_depth(document)
    return document


def _odd_json(body: bytes, error: Exception) -> Any:
    """Parse what the fast parser refuses and the grammar allows: lone surrogates in escapes.

    Such an event is stored; its judgement is an error, and it goes to the dead letters.
    """
    if b"\\u" in body:
        try:
            return json.loads(body.decode("utf-8", "strict"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            pass
    raise Refused(400, "bad_json", f"the body is no JSON: {error}", public="the body is not valid JSON") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _check_depth(document: Any) -> None:
    """Raise Refused(400) when arrays and objects are nested deeper than MAX_DEPTH."""
    if nested_deeper(document, MAX_DEPTH):
        raise Refused(400, "too_deep", f"JSON nested deeper than {MAX_DEPTH}", public="the JSON is nested too deep")


def nested_deeper(document: Any, depth: int) -> bool:
    """Say whether arrays and objects are nested deeper than that; level by level, so that no stack ends."""
    level: list[Any] = [document]
    for _ in range(depth):
        below: list[Any] = []
        for value in level:
            if type(value) is dict:
                below.extend(v for v in value.values() if type(v) in (dict, list))
            elif type(value) is list:
                below.extend(v for v in value if type(v) in (dict, list))
        if not below:
            return False
        level = below
    return True
