"""One message of a queue as every kind of queue gives it, before it is read: values only, and how attributes are kept.

In flow what a queue's SDK returned, translated by its kind; out flows text that may be stored. Names and values come
from strangers: what is not storable is escaped, secrets are left out, and there is an end to how much is kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from sensors.event import EMPTY
from sensors.headers import CUT, MAX_CHARS, MAX_COUNT, HeaderPolicy, safe_text
from sensors.w3c import MAX_TRACESTATE, parse_traceparent

# Why a message is in the dead letters.
UNDECODABLE: Final = "undecodable"  # not what `format` or the message itself promises
TOO_LARGE: Final = "too_large"  # larger than `max_message`
UNSTORABLE: Final = "unstorable"  # a name that no store takes
FAILED: Final = "expression_failed"  # an expression of the configuration cannot be evaluated on it
FOREIGN: Final = "foreign_envelope"  # not in the envelope that `unwrap` promises

_TRACE: Final = frozenset({"traceparent", "tracestate"})


@dataclass(frozen=True, slots=True)
class Poison:
    """Why a message cannot become an event: the reason's code and a sentence."""

    reason: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMessage:
    """A message. `id` is the same at each delivery; None when nobody gave it one. `time` is UTC micros.

    `position` says where it stood, for dead letters. `envelope` holds CloudEvents attributes that came beside the body.
    `raw` is what goes to the dead letters where that is not the body; `poison` is what its kind could not read of it.
    """

    body: bytes
    position: str
    id: str | None = None
    attributes: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    envelope: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    content_type: str | None = None
    subject: str | None = None
    time: int | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    raw: bytes | None = None
    poison: Poison | None = None


def attributes_of(
    headers: Iterable[tuple[str, str]], facts: Mapping[str, str], policy: HeaderPolicy
) -> Mapping[str, str]:
    """Return what the queue says (`facts`) and the kept headers, within the bounds of `sensors.headers`.

    A header whose name is that of a fact, even of an empty one, is kept as `header.NAME`: nobody can pretend one.
    """
    kept = {name: safe_text(value) for name, value in facts.items() if value}
    chars = cut = 0
    count = 0
    for name, value in headers:
        if name.lower() in _TRACE or not policy.keeps(name.lower()):
            continue
        chars += len(name) + len(value)
        count += 1
        if chars > MAX_CHARS or count > MAX_COUNT:
            cut += 1
            continue
        safe = safe_text(name)
        kept[f"header.{safe}" if safe in facts else safe] = safe_text(value)
    if cut:
        kept[CUT] = str(cut)
    return kept


def trace_of(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return a valid traceparent and its tracestate among headers, by any case of their names."""
    found = {name.lower(): value for name, value in headers.items() if name.lower() in _TRACE}
    parent = found.get("traceparent")
    if parse_traceparent(parent) is None or parent is None:
        return None, None
    state = found.get("tracestate")
    return parent.strip(), state if state and state.isascii() and len(state) <= MAX_TRACESTATE else None


def text_of(value: Any) -> str:
    """Return a header's value as text: text as it is, bytes as UTF-8 where they are, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return bytes(value).decode("latin-1")
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        return ascii(value)[:MAX_CHARS]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return text_of(bytes(value))
    return str(value)
