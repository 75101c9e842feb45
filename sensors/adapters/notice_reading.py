"""What the readers of notifications share: findings go in, hints and at most one dead letter come out. Pure.

A message may hold several records. Hints keep their order; every record that cannot be read is a fault, and all faults
of a message make one dead letter that names them and holds the body as it arrived. Nothing is left out in silence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sensors.adapters.objects import Hint
from sensors.batch import DeadLetter
from sensors.cloudevents import parse_time
from sensors.event import EMPTY, storable_text
from sensors.headers import safe_text

# Why a message, or a record of it, is in the dead letters.
UNREADABLE: Final = "unreadable_notice"  # not JSON, or not of a known shape
VERSION: Final = "unknown_version"  # says itself that it is of a shape that came after us
FOREIGN: Final = "foreign_notice"  # tells of another bucket, container, account or service
NAME: Final = "unreadable_name"  # the key is none that an object can have, or none that can be stored
UNCONFIRMED: Final = "unconfirmed_topic"  # a topic asks to be confirmed; only a person may do that

_MAX_TOLD = 5
_MAX_SEQUENCER = 128


@dataclass(frozen=True, slots=True)
class Message:
    """One message as its queue gave it: where it stood, its text, and what the queue says of it."""

    position: str
    body: str
    attributes: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, slots=True)
class Fault:
    """What cannot be read: the reason's code, a sentence, and which part of the message (empty: all of it)."""

    reason: str
    sentence: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a message tells."""

    hints: Sequence[Hint] = ()
    dead: DeadLetter | None = None


def tell(message: Message, findings: Iterable[Hint | Fault]) -> Told:
    """Gather what was found in a message."""
    hints: list[Hint] = []
    faults: list[Fault] = []
    for found in findings:
        if isinstance(found, Fault):
            faults.append(found)
        else:
            hints.append(found)
    return Told(hints, _letter(message, faults) if faults else None)


def _letter(message: Message, faults: Sequence[Fault]) -> DeadLetter:
    told = [f"{fault.part}: {fault.sentence}" if fault.part else fault.sentence for fault in faults[:_MAX_TOLD]]
    if len(faults) > _MAX_TOLD:
        told.append(f"and {len(faults) - _MAX_TOLD} more")
    part = f"#{faults[0].part}" if faults[0].part else ""
    return DeadLetter(
        reason=faults[0].reason,
        detail=safe_text("; ".join(told))[:2000],
        position=safe_text(f"{message.position}{part}")[:1000],
        payload=message.body.encode("utf-8", "surrogatepass"),
        attributes={name: safe_text(value)[:1000] for name, value in message.attributes.items()},
    )


def member(value: Any, *path: str) -> Any:
    """Return what lies at a path of names in decoded JSON, None where there is nothing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text_at(value: Any, *path: str) -> str:
    """Return the text at a path of names in decoded JSON; empty where there is none, or something else."""
    found = member(value, *path)
    return found if isinstance(found, str) else ""


def moment(value: Any) -> int | None:
    """Return the UTC micros of an RFC 3339 moment; None where it is none (a hint does without)."""
    if not isinstance(value, str):
        return None
    try:
        return parse_time(value)
    except (ValueError, OverflowError):
        return None


def sequencer(value: Any) -> str:
    """Return a sequencer as it was given; empty where it is none."""
    return value if isinstance(value, str) and len(value) <= _MAX_SEQUENCER and value.isascii() else ""


def shown(value: Any, limit: int = 120) -> str:
    """Return hostile text as it may stand in a sentence: quoted, escaped and short."""
    text = value if isinstance(value, str) else type(value).__name__
    return ascii(text[:limit]) + ("…" if len(text) > limit else "")


def bad_name(key: str) -> str | None:
    """Say why no object of this key can be told of; None when all is well."""
    if not key:
        return "the key is empty"
    if not storable_text(key):
        return f"the key {shown(key)} holds a NUL or a lone surrogate; rename the object"
    return None
