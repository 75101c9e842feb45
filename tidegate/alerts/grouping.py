"""One storm, one message: what of a group is told when. Pure functions of (group, alert, now).

The first alert of a group is told at once. What follows within `wait` is gathered into a second message; after that it
is quiet for `repeat`, and what came meanwhile is told in one. A group that has an end is closed when its end has held
for `wait`: told as resolved, or taken back if it happens again before. One that goes on and off is told ever more
slowly, each time after twice the wait. Nothing is forgotten while something waits in it.

Moments are UTC microseconds, times too.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import orjson

from tidegate.alerts.alert import KINDS

FEW = 5  # alerts of a message that have words of their own
AGAIN = "it happened again before the end had held"
GOES_ON = "it goes on, as was told"
NOT_OPEN = "nothing was open that could end"
NOT_ASKED = "the route does not ask for `resolved`"
ENDED_ALREADY = "its end was told of already"


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient a route is, in microseconds; and whether it wants to hear of ends."""

    wait: int
    repeat: int
    resolved: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What belongs together on one route.

    `since` is when it began, `last` the latest moment of what happened. `total` counts since it began, `waiting` what
    no message has told yet, and `first` are uids of the first of those. `sent` is when its last message was made,
    `messages` how many there were since it was quiet. `told` says that a message has told that it is open, `due` when
    what waits is told, `closing` when its end counts, `ended` the uid of the alert that says so.
    """

    kind: str
    subject: str
    since: int
    last: int
    open: bool = True
    told: bool = False
    total: int = 0
    waiting: int = 0
    first: tuple[str, ...] = ()
    due: int | None = None
    sent: int | None = None
    messages: int = 0
    flaps: int = 0
    closing: int | None = None
    ended: str | None = None

    def to_json(self) -> str:
        """Write it down."""
        return orjson.dumps(asdict(self)).decode()

    @staticmethod
    def from_json(text: str) -> "Group":
        """Read what was written down; what an older version did not know has its default."""
        raw = orjson.loads(text)
        known = {name: raw[name] for name in Group.__dataclass_fields__ if name in raw}
        return Group(**{**known, "first": tuple(raw.get("first", ()))})


@dataclass(frozen=True, slots=True)
class Told:
    """What a message tells of a group: how it stands, how many alerts, and which of them have words of their own."""

    what: Literal["alert", "resolved", "reminder"]
    group: Group  # as it was before
    count: int
    first: Sequence[str]
    ended: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """An alert as groups see it: `count` things that happened at one moment."""

    uid: str
    kind: str
    subject: str
    at: int
    count: int = 1


def happened(group: Group | None, fact: Fact, now: int, timing: Timing) -> tuple[Group, str]:
    """Take up an alert; the sentence says why it is not told itself, empty when it waits to be.

    An `ended` that is gone afterwards was taken back.
    """
    if group is None:
        group = Group(kind=fact.kind, subject=fact.subject, since=fact.at, last=fact.at, due=now)
    elif not group.open:
        group = _reopened(group, fact.at, now, timing)
    elif group.told and KINDS[fact.kind].state:
        last, total = max(group.last, fact.at), group.total + fact.count
        return replace(group, closing=None, ended=None, last=last, total=total), GOES_ON
    else:
        group = replace(group, closing=None, ended=None)
        if group.due is None:
            quiet = group.sent is None or now >= group.sent + timing.repeat
            group = replace(group, due=_due(group, now, timing), messages=0 if quiet else group.messages)
    waits = replace(
        group,
        last=max(group.last, fact.at),
        total=group.total + fact.count,
        waiting=group.waiting + fact.count,
        first=(*group.first, fact.uid)[:FEW],
    )
    return waits, ""


def _reopened(group: Group, at: int, now: int, timing: Timing) -> Group:
    flaps = group.flaps + 1 if group.sent is not None and now < group.sent + timing.repeat else 0
    after = 0 if flaps == 0 else min(timing.repeat, timing.wait << min(flaps, 32))
    fresh = group.waiting == 0
    return replace(
        group,
        open=True,
        told=False,
        flaps=flaps,
        due=now + after if group.due is None else min(group.due, now + after),
        since=at if fresh else group.since,
        total=0 if fresh else group.total,
        messages=0 if flaps == 0 else group.messages,
        closing=None,
        ended=None,
    )


def _due(group: Group, now: int, timing: Timing) -> int:
    """Return when another alert of an open group is told."""
    if group.sent is None or now >= group.sent + timing.repeat:
        return now
    return now + timing.wait if group.messages <= 1 else group.sent + timing.repeat


def ended(group: Group | None, uid: str, now: int, timing: Timing) -> tuple[Group | None, str]:
    """Take up an alert that says that it has ended; the sentence says why it is not told, empty while it may be."""
    if group is None or not group.open:
        return group, NOT_OPEN
    if group.closing is not None:
        return group, ENDED_ALREADY
    return replace(group, closing=now + timing.wait, ended=uid), ""


def close(group: Group, now: int, timing: Timing) -> tuple[Group, str]:
    """Close a group whose end has held, unless that is to be told; the sentence says why its end never will be.

    Who was not told that it began is not told that it ended: what waits says that it is over.
    """
    if group.closing is None or group.closing > now or (group.told and timing.resolved):
        return group, ""
    if timing.resolved:
        return replace(group, open=False, closing=None), ""
    return replace(group, open=False, closing=None, ended=None), NOT_ASKED


def tellable(group: Group, now: int, timing: Timing) -> bool:
    """Say whether there is something to tell now."""
    moment = tell_at(group, timing)
    return moment is not None and moment <= now


def tell_at(group: Group, timing: Timing) -> int | None:
    """Return when there will be something to tell, if nothing else happens."""
    moments = []
    if group.due is not None and group.waiting:
        moments.append(group.due)
    if group.closing is not None and group.told and timing.resolved:
        moments.append(group.closing)
    if KINDS[group.kind].state and group.open and group.told and group.sent is not None:
        moments.append(group.sent + timing.repeat)
    return min(moments, default=None)


def tell(group: Group, now: int, timing: Timing) -> tuple[Group, Told]:
    """Tell what is to be told now, all of it."""
    over = group.told and group.closing is not None and group.closing <= now and timing.resolved
    what: Literal["alert", "resolved", "reminder"] = "resolved" if over else "alert" if group.waiting else "reminder"
    told = Told(what, group, group.waiting, group.first, group.ended if over or not group.open else None)
    after = replace(group, waiting=0, first=(), due=None, sent=now, messages=group.messages + 1, told=group.open)
    if told.ended is not None:
        after = replace(after, open=False, told=False, closing=None, ended=None)
    return after, told


def forgettable(group: Group, now: int, timing: Timing) -> bool:
    """Say whether a group that is quiet may be forgotten: it is over, or it is of a kind that has no end."""
    moment = forget_at(group, timing)
    return moment is not None and moment <= now


def forget_at(group: Group, timing: Timing) -> int | None:
    """Return when a group may be forgotten, None while something waits or it is open."""
    if group.waiting or group.closing is not None or (group.open and KINDS[group.kind].over is not None):
        return None
    return (group.sent if group.sent is not None else group.last) + timing.repeat


def next_at(group: Group, timing: Timing) -> int | None:
    """Return when to look at a group again."""
    moments = (tell_at(group, timing), forget_at(group, timing), group.closing)
    return min((moment for moment in moments if moment is not None), default=None)
