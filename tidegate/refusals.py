"""What was refused at the door, kept for operators: the last requests per endpoint with the reason, and exact counts.

Bounded, in memory, without bodies, headers or secrets.
"""

import logging
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

_KEPT = 50
_log = logging.getLogger("tidegate.webhooks")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused request. `at` is UTC microseconds."""

    at: int
    status: int
    code: str
    reason: str
    client: str


class Refusals:
    """The last refused requests of each endpoint."""

    def __init__(self) -> None:
        self._last: dict[str, deque[Refusal]] = {}
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, sensor: str, at: int, status: int, code: str, reason: str, client: str) -> None:
        """Remember a refusal."""
        self.counts[sensor, code] += 1
        self._last.setdefault(sensor, deque(maxlen=_KEPT)).append(Refusal(at, status, code, reason, client))

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
