"""What was refused at the door, kept for operators: the last requests per endpoint with the reason, and exact counts.

Bounded, in memory. Secrets are never kept: of the headers those that may be attributes of an event, of the query the
names alone; nothing of the body unless the endpoint says how much (`keep_refused`).
"""

import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sensors.event import EMPTY

_KEPT = 50
_log = logging.getLogger("tidegate.webhooks")


@dataclass(frozen=True, slots=True)
class Seen:
    """What may be kept of a refused request. `size` is that of the body, `body` the beginning of it as text."""

    method: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    query: tuple[str, ...] = ()
    size: int | None = None
    body: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused request. `at` is UTC microseconds."""

    at: int
    status: int
    code: str
    reason: str
    client: str
    seen: Seen = field(default_factory=Seen)


class Refusals:
    """The last refused requests of each endpoint."""

    def __init__(self) -> None:
        self._last: dict[str, deque[Refusal]] = {}
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(
        self, sensor: str, at: int, status: int, code: str, reason: str, client: str, seen: Seen | None = None
    ) -> None:
        """Remember a refusal."""
        self.counts[sensor, code] += 1
        kept = Refusal(at, status, code, reason, client, seen or Seen())
        self._last.setdefault(sensor, deque(maxlen=_KEPT)).append(kept)

    def fault(self, sensor: str, at: int, error: Exception) -> None:
        """Remember a fault of our own and say so in the log."""
        _log.error(
            "a request to %s failed by our own fault and was answered 503",
            sensor,
            exc_info=error,
            extra={"action": "webhook_fault"},
        )
        self.add(sensor, at, 503, "fault", f"{type(error).__name__}: {error}", "")

    def last(self, sensor: str) -> Sequence[Refusal]:
        """Return the last refusals of an endpoint, newest first."""
        return tuple(reversed(self._last.get(sensor, ())))
