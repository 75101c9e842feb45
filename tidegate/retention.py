"""Forgetting by age: events, decisions, runs, logs and alerts that are old and that nothing kept refers to.

Runs on a durable timer, so that of several replicas one does it. Each pass deletes a bounded number of rows and comes
back at once while there is more, so that ingest never waits long behind it.
"""

from collections.abc import Callable, Sequence

from config.model import Retention
from tidegate.store.records import Timer
from tidegate.store.tx import Tx

KIND = "retention"
_EVERY = 600_000_000
_LIMIT = 2_000


def arm(tx: Tx) -> None:
    """Set the retention timer unless one is set: due at once, then by itself."""
    tx.set_timers([Timer(tx.now() + 5_000_000, KIND, "all")])


def prune(tx: Tx, retention: Retention) -> int:
    """Delete a bounded number of old rows; return how many went."""
    now = tx.now()
    ages: Sequence[tuple[str, int]] = (
        ("decisions", now - int(retention.decisions * 1e6)),
        ("runs", now - int(retention.runs * 1e6)),
        ("events", now - int(retention.events * 1e6)),
        ("event_ids", now),
        ("rounds", now),
        ("alerts", now - int(retention.alerts * 1e6)),
        ("replays", now - int(retention.runs * 1e6)),
    )
    return sum(tx.prune(what, before, _LIMIT) for what, before in ages)


def handler(retention: Callable[[], Retention]) -> Callable[[Tx, Timer], None]:
    """Return the timer's handler; it sets the next timer itself."""

    def handle(tx: Tx, timer: Timer) -> None:
        gone = prune(tx, retention())
        tx.set_timers([Timer(tx.now() + (1_000_000 if gone >= _LIMIT else _EVERY), KIND, timer.key)])

    return handle


class ArmRetention:
    """The write that arms the timer when the service starts."""

    name = "arm_retention"

    def __call__(self, tx: Tx, items: Sequence[None]) -> Sequence[None]:
        """Arm."""
        arm(tx)
        return [None] * len(items)
