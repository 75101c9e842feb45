"""What becomes of a change whose content was inspected: an event with what was read, or a dead letter.

The memory of an object notes that it was refused, and whether an earlier version of it was ever told. So a refused
object is not judged again until it changes; the first version that is accepted is `created` for all who listen, however
often it was overwritten meanwhile; and nobody is told of the deletion of what nobody was told of. An operator may have
a refused object judged again although it has not changed: `expect` has, or it was repaired beside our sight.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from sensors.adapters.object_steps import Inspected
from sensors.batch import Batch, DeadLetter, SeenObject
from sensors.event import Event
from sensors.listing import PRESENT, Change, D, What, object_id
from sensors.ports import Lookup
from sensors.retrying import NotRetryable

REASON: Final = "refused"
UNREADABLE: Final = "unreadable"
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


async def look_again(letter: DeadLetter, lookup: Lookup) -> Batch:
    """Return what has an object judged anew at the next look: its version is not the one that is remembered any more.

    Raises NotRetryable where that would lead to nothing.
    """
    if letter.reason not in (REASON, UNREADABLE):
        raise NotRetryable("nothing of it can be read again; rename or replace the object, and drop the letter")
    id_ = letter.attributes.get("id", "")
    key = id_.rpartition("#")[0].rpartition("@")[0] if id_ else letter.position
    seen = (await lookup.seen([key])).get(key)
    if seen is None or seen.state != PRESENT:
        raise NotRetryable(f"{key} is not there any more (it may have been moved on refusal); put it there again")
    if id_ and object_id(seen) != id_:
        raise NotRetryable(f"{key} has another version by now, which was judged by itself; drop the letter")
    if id_ and not is_refused(seen):
        raise NotRetryable(f"{key} is being looked at again already")
    before, plus, _ = seen.token.rpartition("+")
    return Batch(seen=(replace(seen, token=f"{before}{plus}0"),))


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
