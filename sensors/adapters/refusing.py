"""What becomes of a change whose content was inspected: an event with what was read, or a dead letter. Pure.

The memory of an object notes that it was refused, and whether an earlier version of it was ever told. So a refused
object is not judged again until it changes; the first version that is accepted is `created` for all who listen, however
often it was overwritten meanwhile; and nobody is told of the deletion of what nobody was told of.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from sensors.adapters.object_steps import Inspected
from sensors.batch import DeadLetter, SeenObject
from sensors.event import Event
from sensors.listing import Change, D, What

REASON: Final = "refused"
_FIELD: Final = "refused"
_UNTOLD: Final = "untold"
_TOLD: Final = "told"


def is_refused(seen: SeenObject) -> bool:
    """Say whether the remembered version was refused."""
    return bool(_state(seen))


def is_untold(seen: SeenObject) -> bool:
    """Say whether no version of the object was ever told since it appeared."""
    return _state(seen) == _UNTOLD


def as_told(change: Change[D]) -> Change[D]:
    """Return the change as those see it who were told of no refused version: the first one told is `created`."""
    if change.what is What.OVERWRITTEN and is_untold(change.seen):
        return replace(change, what=What.CREATED)
    return change


def accepted(seen: SeenObject) -> SeenObject:
    """Return the memory of an object whose version becomes an event."""
    return _noted(seen, "") if _state(seen) else seen


def refused(seen: SeenObject, what: str) -> SeenObject:
    """Return the memory of an object whose version was refused. `what` is the type that its event would have had."""
    return _noted(seen, _UNTOLD if what == What.CREATED else _TOLD)


def with_content(event: Event, found: Inspected) -> Event:
    """Return the event with what was read of the content among its data."""
    if not found.data:
        return event
    return replace(event, data=orjson.dumps({**_data(event), **found.data}))


def letter_of(event: Event, found: Inspected) -> DeadLetter:
    """Return the dead letter of an event that was refused: the sentence, the event as it would be, the difference."""
    whole = with_content(event, found)
    payload = {
        "event": {
            "id": whole.id,
            "source": whole.source,
            "type": whole.type,
            "subject": whole.subject,
            "time": whole.time,
            "data": _data(whole),
            "match": dict(whole.match),
        },
        "difference": dict(found.difference),
    }
    return DeadLetter(
        reason=REASON,
        detail=found.violation or "",
        position=event.subject or event.id,
        payload=orjson.dumps(payload),
        content_type="application/json",
        attributes={"type": event.type, "id": event.id},
    )


def _data(event: Event) -> Mapping[str, Any]:
    data = orjson.loads(event.data) if event.data else {}
    return data if isinstance(data, dict) else {}


def _extra(seen: SeenObject) -> dict[str, Any]:
    if not seen.extra:
        return {}
    extra = json.loads(seen.extra)
    return extra if isinstance(extra, dict) else {}


def _state(seen: SeenObject) -> str:
    return str(_extra(seen).get(_FIELD, "")) if _FIELD in seen.extra else ""


def _noted(seen: SeenObject, state: str) -> SeenObject:
    extra = _extra(seen)
    if state:
        extra[_FIELD] = state
    else:
        extra.pop(_FIELD, None)
    return replace(seen, extra=json.dumps(extra, separators=(",", ":")) if extra else "")
