"""What the store keeps of alerts: what people are to be told, what belongs together, and the messages on their way.

Plain frozen data. Moments are UTC microseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sensors.event import EMPTY

NEW = "new"  # nobody has looked at it yet
GATHERED = "gathered"  # waits in its group
TOLD = "told"  # is part of a message that is on its way
SENT = "sent"
FAILED = "failed"
SUPPRESSED = "suppressed"
PENDING = (NEW, GATHERED, TOLD)  # what people see as pending


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One thing that one route is to tell of. `id` is the same however often it is raised; a route keeps it once.

    `group` is what it is gathered by, `ends` says that it ends what the group tells of, and `count` how many things it
    stands for. `labels` is small JSON: names, tags and uids.
    """

    uid: str
    route: str
    id: str
    kind: str
    severity: str
    subject: str
    group: str
    at: int
    text: str
    count: int = 1
    ends: bool = False
    labels: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    state: str = NEW
    message: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """What belongs together, on one route. `key` "" is the route itself, with the moments of its last messages.

    `open`: it has neither ended nor begun to. `last_at` is the latest moment of what happened, `next_at` when to look
    at it again, `state` JSON of `tidegate.alerts.grouping`.
    """

    route: str
    key: str
    kind: str
    open: bool
    last_at: int
    next_at: int | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertMessage:
    """A message to one target (its position in the route's `to`). `body` is the JSON text that is sent.

    `next_at` is when it is to be tried (again); while somebody tries, when others may. `attempts` fences: who reports
    names the attempt that it made.
    """

    message: str
    target: int
    route: str
    group: str
    made_at: int
    body: str
    state: str = "pending"
    attempts: int = 0
    next_at: int = 0
    error: str = ""
    done_at: int | None = None


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """What became of an attempt: `state` `pending` with the moment of the next one, or final."""

    message: str
    target: int
    attempts: int
    state: str
    next_at: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """What a route could not deliver so far: how many messages, since when, and what was said last."""

    route: str
    messages: int
    since: int
    error: str
