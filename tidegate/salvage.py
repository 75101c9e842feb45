"""What is left of a batch that was refused: the events that can be stored, and dead letters of those that cannot. Pure
but for the fresh uids.
"""

from collections.abc import Sequence
from dataclasses import replace

from sensors.batch import DeadLetter
from sensors.event import Event, storable_text
from sensors.headers import safe_text
from sensors.uid import EVENT, new_uid
from tidegate.store.tx import ItemRefused


def salvage(events: Sequence[Event]) -> tuple[list[Event], list[DeadLetter]]:
    """Split events into those that can be stored, under fresh uids, and dead letters of those that cannot."""
    good = []
    letters = []
    for event in events:
        field = unstorable(event)
        if field is None:
            good.append(replace(event, uid=new_uid(EVENT, event.received_at)))
            continue
        reason = f"{field} of the event holds text that cannot be stored (NUL or half of a surrogate pair)"
        letters.append(letter_of(event, reason))
    return good, letters


def of_data(refusal: ItemRefused) -> bool:
    """Say whether the database refused values (a text too long for an index, a number too large), and no rule of ours.

    What fails for a reason of ours is tried again, however often: it is not the event's fault.
    """
    cause = refusal.__cause__
    if isinstance(cause, OverflowError | UnicodeError):
        return True
    return str(getattr(cause, "sqlstate", None) or "")[:2] in ("22", "54")  # data exception, limit exceeded


def letter_of(event: Event, reason: str) -> DeadLetter:
    """Make the dead letter of an event that cannot be stored."""
    return storable(
        DeadLetter("unstorable", reason, ascii(f"{event.sensor}/{event.id}"), event.data or b"", event.content_type)
    )


def storable(letter: DeadLetter) -> DeadLetter:
    """Return a dead letter that every store takes: its texts come from where the poison comes from."""
    return replace(
        letter,
        reason=safe_text(letter.reason),
        detail=safe_text(letter.detail),
        position=safe_text(letter.position),
        content_type=None if letter.content_type is None else safe_text(letter.content_type),
        attributes={safe_text(name): safe_text(value) for name, value in letter.attributes.items()},
    )


def unstorable(event: Event) -> str | None:
    """Return the name of a field whose text no column takes, None when there is none."""
    for name in ("id", "source", "type", "subject", "content_type", "traceparent", "tracestate"):
        if not storable_text(getattr(event, name) or ""):
            return name
    for name, texts in (("attributes", event.attributes), ("match", event.match)):
        if not all(storable_text(key) and storable_text(value) for key, value in texts.items()):
            return name
    return None
