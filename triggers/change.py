"""Changes of an event: what would have to be otherwise in it, named so that people and programs can apply it. Pure.

In flow an event and changes; out flows the event as it would be. A change names a place by steps (`data`, `size`) and
what stands there afterwards, or that nothing does. Explanations name them; tests of explanations apply them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from sensors.event import Event, parse_data
from triggers.wish import show

Step = str | int
_TEXTS = ("attributes", "match")
_ALWAYS = ("type", "source", "id", "sensor")
_MOMENTS = ("time", "received_at")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_ADDED = 1_000  # elements that one change may add to a list


@dataclass(frozen=True, slots=True)
class Change:
    """One change: at `steps` stands `value` afterwards, or nothing with `remove`. Moments are RFC 3339 text."""

    steps: tuple[Step, ...]
    value: Any = None
    remove: bool = False

    @property
    def field(self) -> str:
        """Return the place as filters write it."""
        return place_text(self.steps)

    @property
    def words(self) -> str:
        """Say in words what is to be done."""
        return f"leave out {self.field}" if self.remove else f"make {self.field} {show(self.value)}"


class Impossible(ValueError):
    """There is no event with such a change."""


def place_text(steps: Sequence[Step]) -> str:
    """Return the text of a place: `data.files.0.size`."""
    return ".".join(str(step) for step in steps)


def changed(event: Event, changes: Sequence[Change]) -> Event:
    """Return the event with changes applied, in order. Raises Impossible."""
    for change in changes:
        event = _changed(event, change)
    return event


def current(event: Event, steps: Sequence[Step]) -> Any:
    """Return what stands at a place, None when nothing does; moments as RFC 3339 text."""
    head, *rest = steps
    if head == "data":
        return _at(content(event), rest)
    if head in _TEXTS:
        texts: Mapping[str, str] = getattr(event, str(head))
        return texts.get(str(rest[0])) if rest else dict(texts)
    value = getattr(event, str(head))
    return _text_of(value) if head in _MOMENTS and value is not None else value


def content(event: Event) -> Any:
    """Return the content of an event, None when it cannot be read."""
    try:
        return parse_data(event.data, event.content_type)
    except ValueError:
        return None


def _changed(event: Event, change: Change) -> Event:
    head, *rest = change.steps
    if head == "data":
        value = _put(content(event), rest, change)
        if value is _NOTHING:
            return replace(event, data=None, content_type=None)
        return replace(event, data=_json(value), content_type="application/json")
    if head in _TEXTS and len(rest) == 1:
        texts = dict(getattr(event, str(head)))
        texts.pop(str(rest[0]), None)
        if not change.remove:
            texts[str(rest[0])] = _text(change)
        return _with(event, head, texts)
    if rest or head not in (*_ALWAYS, *_MOMENTS, "subject"):
        raise Impossible(f"{change.field} is no place in an event")
    if change.remove:
        if head in _ALWAYS or head == "received_at":
            raise Impossible(f"every event has {head}")
        return _with(event, head, None)
    return _with(event, head, _moment(_text(change)) if head in _MOMENTS else _text(change))


def _with(event: Event, head: Step, value: Any) -> Event:
    fields: dict[str, Any] = {str(head): value}
    return replace(event, **fields)


_NOTHING = object()


def _put(value: Any, steps: Sequence[Step], change: Change) -> Any:
    """Return a copy of a value with the change made below it."""
    if not steps:
        return _NOTHING if change.remove else change.value
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        return _put_element(value if isinstance(value, list) else [], step, rest, change)
    if isinstance(value, list) and step.isascii() and step.isdigit():
        return _put_element(value, int(step), rest, change)
    table = dict(value) if isinstance(value, dict) else {}
    below = _put(table.get(str(step)), rest, change)
    table.pop(str(step), None) if below is _NOTHING else table.update({str(step): below})
    return table


def _put_element(value: list[Any], index: int, rest: Sequence[Step], change: Change) -> list[Any]:
    if not 0 <= index < len(value) + _MOST_ADDED:
        raise Impossible(f"no list has {index} elements for this")
    elements = [*value, *[None] * (index + 1 - len(value))]
    below = _put(elements[index], rest, change)
    if below is _NOTHING:
        del elements[index]
    else:
        elements[index] = below
    return elements


def _at(value: Any, steps: Sequence[Step]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(str(step))
        elif isinstance(value, list) and str(step).isascii() and str(step).isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Impossible(f"JSON cannot hold it: {error}") from error


def _text(change: Change) -> str:
    if not isinstance(change.value, str):
        raise Impossible(f"{change.field} is text")
    return change.value


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise Impossible(f"{text} says no time zone")
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise Impossible(f"{text} is no moment") from error


def _text_of(moment: int) -> str | None:
    try:
        return (_EPOCH + timedelta(microseconds=moment)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return None
