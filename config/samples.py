"""Sample events: what a file, or a kind's own sample, says an event is. For trying rules; nothing here reads a file.

In flow bytes as people write them: an event's envelope (as `events show --json` prints it), a list of such, a line for
each, or only content. Out flow events with the moment at which each comes. What an envelope does not say comes from the
sample of the sensor's kind.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from config.problems import known_names
from sensors.event import OWN_SENSOR, Event
from sensors.registry import load_registry
from sensors.uid import EVENT, make_uid
from sensors.units import parse_duration

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Samples = Mapping[str, Mapping[str, Any]]  # by sensor, the sample of its kind


class BadSample(ValueError):
    """What is given is no event; the sentence says why."""


def kind_sample(name: str) -> Mapping[str, Any]:
    """Return the sample of a built-in or installed sensor kind. Raises BadSample for an unknown one."""
    kinds = load_registry(())
    if name not in kinds:
        raise BadSample(f"there is no sensor kind {name}; {known_names(name, list(kinds))}")
    return kinds[name].emits.sample


def read_events(raw: bytes, sensor: str | None, samples: Samples, now: int) -> list[Event]:
    """Return the events that bytes hold, in order. Raises BadSample.

    `sensor` is that of events that do not name one, and of a single event in any case. `now` is when the first comes
    that says nothing of it (UTC microseconds); `at` of an envelope is a moment, or `+5m` after the event before.
    """
    found = envelopes(raw)
    if found is None:
        return [make_event({"data": raw}, _sensor(None, sensor), samples, now, whole=False)]
    made: list[Event] = []
    for number, given in enumerate(found):
        at = _moment(given, made[-1].received_at if made else now, number)
        named = _text(given, "sensor")
        name = _sensor(named, sensor) if len(found) > 1 or sensor is None else sensor
        made.append(make_event(given, name, samples, at, number=number))
    return made


def envelopes(raw: bytes) -> list[dict[str, Any]] | None:
    """Return the envelopes that bytes hold; None when they are only content."""
    try:
        whole = json.loads(raw)
    except (ValueError, RecursionError):
        whole = _lines(raw)
    if _is_envelope(whole):
        return [whole]
    if isinstance(whole, list) and whole and all(_is_envelope(item) for item in whole):
        return whole
    return None


def make_event(
    given: Mapping[str, Any], sensor: str, samples: Samples, at: int, *, whole: bool = True, number: int = 0
) -> Event:
    """Build an event: what is given, over the sample of the sensor's kind. Raises BadSample.

    Without `whole`, only content (bytes) is given, and the envelope is the sample's.
    """
    sample = dict(samples.get(sensor, {}))
    values = {**sample, **given} if whole else {**sample, "data": None}
    if whole:
        data, content_type = _content(values)
    else:
        data, content_type = given["data"], sample.get("content_type")
    name = _text(values, "id") or "sample"
    if number and "id" not in given:
        name = f"{name}#{number + 1}"
    time = values.get("time")
    return Event(
        sensor=sensor,
        id=name,
        uid=make_uid(EVENT, at, hashlib.sha256(f"{number} {sensor} {name}".encode("utf-8", "replace")).digest()[:10]),
        source=_text(values, "source") or f"/{sensor}",
        type=_text(values, "type") or "sample",
        received_at=at,
        subject=_text(values, "subject"),
        time=_micros(time) if isinstance(time, str | datetime) else None,
        data=data,
        content_type=content_type,
        attributes=_texts(values, "attributes"),
        match=_texts(values, "match"),
    )


def read_moment(text: str, after: int) -> int:
    """Read a moment (RFC 3339), or a duration after one (`+5m`), as UTC microseconds. Raises BadSample."""
    if text.startswith("+"):
        try:
            return after + round(parse_duration(text[1:]) * 1e6)
        except ValueError as error:
            raise BadSample(f"{text} is no time after the event before; write +5m") from error
    found = _micros(text)
    if found is None:
        raise BadSample(f"{text} is no moment; write 2026-01-31T06:00:00Z, or +5m after the event before")
    return found


def _lines(raw: bytes) -> Any:
    """Return JSON lines as a list, None when not every line is an object."""
    found = []
    for line in raw.splitlines():
        if line.strip():
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError):
                return None
    return found


def _is_envelope(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("type"), str) and ("data" in found or "id" in found)


def _moment(given: Mapping[str, Any], after: int, number: int) -> int:
    said = given.get("at", given.get("received_at") if number or "at" in given else None)
    if said is None:
        return after
    if not isinstance(said, str):
        raise BadSample(f"event {number + 1}: `at` is no text; write 2026-01-31T06:00:00Z, or +5m")
    return read_moment(said, after)


def _sensor(named: str | None, fallback: str | None) -> str:
    name = named or fallback
    if name is None:
        raise BadSample("nothing says from which sensor the event would come; name it with --sensor")
    return name


def _micros(moment: str | datetime) -> int | None:
    try:
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        return None
    if found.tzinfo is None:
        return None
    since = found - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _content(values: Mapping[str, Any]) -> tuple[bytes | None, str | None]:
    data = values.get("data")
    said = values.get("content_type") or values.get("datacontenttype")
    content_type = said if isinstance(said, str) else None
    if data is None or isinstance(data, bytes):
        return data, content_type
    if isinstance(data, str) and content_type is not None and not content_type.partition(";")[0].endswith("json"):
        return data.encode("utf-8", "surrogatepass"), content_type
    return json.dumps(data).encode(), content_type or "application/json"


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise BadSample(f"the event's {name} is no text")
    return value


def _texts(values: Mapping[str, Any], name: str) -> dict[str, str]:
    value = values.get(name) or {}
    if not isinstance(value, Mapping):
        raise BadSample(f"the event's {name} is no map")
    return {str(key): part if isinstance(part, str) else json.dumps(part) for key, part in value.items()}


def sensors_known(sensors: Sequence[str], events: Sequence[Event]) -> None:
    """Refuse events of sensors that are not configured. Raises BadSample."""
    for event in events:
        if event.sensor != OWN_SENSOR and event.sensor not in sensors:
            raise BadSample(f"there is no sensor {event.sensor}; {known_names(event.sensor, sensors)}")
