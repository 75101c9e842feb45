"""An event as rules see it: the envelope at hand, content parsed when somebody first asks, once for all of them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from sensors.event import Event, parse_data
from triggers.activation import Activation, check_text, moment, readable
from triggers.errors import EvaluationError, Unreadable
from triggers.template import moment_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNPARSED = object()
_SUSPICIOUS = (b"\\u0000", b"\\ud", b"\\uD", b"\0")  # none of these: nothing hostile in JSON or text


class Envelope:
    """What is known of a record before an event is made of it."""

    __slots__ = ("subject", "type")

    def __init__(self, type: str, subject: str | None) -> None:
        self.type = type
        self.subject = subject


class EventView(Envelope):
    """One event under judgement at `now` (UTC microseconds, the recorded ingest time)."""

    __slots__ = ("_data", "event", "now")

    def __init__(self, event: Event, now: int) -> None:
        super().__init__(event.type, event.subject)
        self.event = event
        self.now = now
        self._data: Any = _UNPARSED

    def check(self) -> None:
        """Refuse an event whose envelope or content holds text that CEL and text columns cannot. Raises Unreadable."""
        event = self.event
        attributes, match = event.attributes, event.match
        text = f"{event.id}{event.source}{event.type}{event.subject}"
        if attributes:
            text += "".join(attributes) + "".join(attributes.values())
        if match:
            text += "".join(match) + "".join(match.values())
        if "\0" in text or not text.isascii():
            self._name_hostile_text()
        data = event.data
        # One byte is searched for much faster than two: most data is let go by the first question.
        if data is not None and (b"\\" in data or b"\0" in data) and any(mark in data for mark in _SUSPICIOUS):
            content = self.data()
            if not isinstance(content, bytes):
                readable(content, "data")

    def _name_hostile_text(self) -> None:
        event = self.event
        for name in ("id", "source", "type", "subject"):
            check_text(getattr(event, name) or "", name)
        for where, texts in (("attributes", event.attributes), ("match", event.match)):
            for key, value in texts.items():
                check_text(key, f"the name of one of the {where}")
                check_text(value, f"{where}.{key}")

    def data(self) -> Any:
        """Return the content as expressions see it. Raises Unreadable when it is not what its type says."""
        data = self._data
        if data is _UNPARSED:
            event = self.event
            try:
                data = parse_data(event.data, event.content_type)
            except orjson.JSONDecodeError as error:
                what = (
                    "holds half of a surrogate pair"
                    if "surrogate" in str(error)
                    else f"is not the JSON it is said to be ({error})"
                )
                raise Unreadable(f"data {what}") from error
            except ValueError as error:
                raise Unreadable(f"data is not the text it is said to be ({error})") from error
            self._data = data
        return data

    def time_text(self) -> str | None:
        """Return the source's moment as RFC 3339 text."""
        at = self.event.time
        if at is None:
            return None
        try:
            return moment_text(_EPOCH + timedelta(microseconds=at))
        except OverflowError:  # beyond the years 1 to 9999
            return None

    def activation(self, likely: frozenset[str] = frozenset()) -> Activation:
        """Return the variables of this event for expressions."""
        return Activation(None, self._load, likely)

    def value(self) -> dict[str, Any]:
        """Return the event as one value, for expressions over several; content that none can read (binary) is left out.

        Raises Unreadable.
        """
        fields = {name: load(self) for name, load in _FIELDS.items()}
        try:
            fields["data"] = readable(_data_for_cel(self), "data")
        except Unreadable:
            raise
        except EvaluationError:
            pass
        return fields

    def _load(self, name: str) -> Any:
        return _LOADERS[name](self)


def _data_for_cel(view: EventView) -> Any:
    data = view.data()
    if isinstance(data, bytes) and 0 in data:
        raise EvaluationError("data is binary (it holds NUL bytes): expressions cannot read it")
    return data


def _plain(texts: Mapping[str, str]) -> dict[str, str]:
    return texts if texts.__class__ is dict else dict(texts)


_LOADERS: Mapping[str, Callable[[EventView], Any]] = {
    "event.uid": lambda view: view.event.uid,
    "event.id": lambda view: view.event.id,
    "event.source": lambda view: view.event.source,
    "event.type": lambda view: view.event.type,
    "event.subject": lambda view: view.event.subject,
    "event.time": lambda view: None if view.event.time is None else moment(view.event.time),
    "event.received_at": lambda view: moment(view.event.received_at),
    "event.sensor": lambda view: view.event.sensor,
    "event.data": _data_for_cel,
    "event.attributes": lambda view: _plain(view.event.attributes),
    "event.match": lambda view: _plain(view.event.match),
    "now": lambda view: moment(view.now),
}
_FIELDS: Mapping[str, Callable[[EventView], Any]] = {
    name.removeprefix("event."): load
    for name, load in _LOADERS.items()
    if name.startswith("event.") and name != "event.data"
}
