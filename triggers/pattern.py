"""What a trigger may wait for beside single events: joins, sequences, counts and absence. Plain frozen data.

Durations are microseconds. `triggers.pattern_rule` compiles a pattern; `triggers.join`, `triggers.count` and
`triggers.absence` say what it does.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import orjson

SECOND = 1_000_000
REMEMBER = 7 * 86_400 * SECOND
MAX_PARTS = 100
MAX_EVENTS = 5_000  # that one key may hold


class Take(StrEnum):
    """Which event counts when a part comes twice for one key."""

    FIRST = "first"  # the earliest; a later one is a duplicate
    LATEST = "latest"  # the newest; an older one is a duplicate
    ALL = "all"  # every one


class Late(StrEnum):
    """What happens to a part that comes after its key has fired or is overdue."""

    IGNORE = "ignore"  # a `late` decision, nothing else
    REFIRE = "refire"  # it joins, and the trigger fires again if what is required is there
    ALERT = "alert"  # a `late` decision and the own event `tidegate.join.late`


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What to listen to: a sensor, optional CloudEvents types, and a filter in the Subscriptions dialect.

    `filter` is the nested mapping as written (`exact prefix suffix all any not`), None for every event of the sensor.
    """

    sensor: str
    types: Sequence[str] = ()
    filter: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One named part: its source, the CEL condition `when`, and `by`, the CEL key under which parts meet.

    Without `by` (on no part of the pattern) everything meets under the key `all`.
    """

    name: str
    source: Source
    by: str | None = None
    when: str | None = None
    take: Take = Take.FIRST


@dataclass(frozen=True, slots=True, kw_only=True)
class Opens:
    """A calendar that opens keys before anything arrives: at each tick of `cron` the one that `key` (CEL) names."""

    cron: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Parts that belong together by key. `in_order` makes a sequence of them.

    A key is overdue `within` after its first part (after it was opened, with `opens`), or at the next `until` (local
    time `HH:MM` in `timezone`). `require` is `all`, `N`, `N of M`, or CEL over the names of the parts. `remember` is
    how long a key that is done with takes parts as late ones; 0: the next part opens it anew. `lateness` None: windows
    on received time; otherwise on the source's time, and how much later than that parts may be received.
    """

    parts: Sequence[Part]
    in_order: bool = False
    within: int | None = None
    opens: Opens | None = None
    until: str | None = None
    timezone: str = "UTC"
    require: str = "all"
    late: Late = Late.IGNORE
    remember: int = REMEMBER
    lateness: int | None = None
    overdue_alert: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """`reach` events of one key within any `within`; then they are used up. `lateness` as in a join."""

    part: Part
    reach: int
    within: int
    lateness: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """No event of `part` for `silence`, by key; with `after`, none that followed an event of `after` within it.

    The clock runs only while the sensor is healthy and caught up. A key fires once per silence.
    """

    part: Part
    silence: int
    after: Part | None = None


Pattern = Join | Count | Absence


def parts_of(pattern: Pattern) -> Sequence[Part]:
    """Return the parts of a pattern, in order."""
    match pattern:
        case Join(parts=parts):
            return parts
        case Count(part=part):
            return (part,)
        case Absence(part=part, after=None):
            return (part,)
        case Absence(part=part, after=Part() as after):
            return (after, part)
    raise AssertionError(pattern)


def place_of(pattern: Pattern, part: Part) -> str:
    """Return where a part stands in its trigger."""
    match pattern:
        case Join(in_order=in_order):
            return f"{'sequence' if in_order else 'join'}.of.{part.name}"
        case Count():
            return "count"
        case Absence(after=after):
            return "absent.after" if part is after else "absent"


_WITHOUT_MEANING = ("late", "remember", "overdue_alert")  # what does not change what a waiting key has gathered


def meaning_of(pattern: Pattern) -> str:
    """Return the name of what a pattern means: state that was gathered under another meaning cannot be gone on with."""
    plain = asdict(pattern)
    for name in _WITHOUT_MEANING:
        plain.pop(name, None)
    text = orjson.dumps([type(pattern).__name__, plain], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:16]
