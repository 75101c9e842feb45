"""Triggers with flow control, and events for them, in works that are driven by hand."""

from typing import Any

from tests.support.works import T0, make_config, make_event, make_trigger
from triggers.control import Active, Batch, Control, Over, Throttle, Window

SECOND = 1_000_000
HOUR = 3_600 * SECOND
IDS = {"params": {"ids": "${{ events.map(e, e.id) }}", "key": "${{ key }}"}}
ONE = {"params": {"id": "${{ event.id }}"}}
BATCH = Batch(within=60 * SECOND, count=3, by="event.subject")
LINE = Throttle(events=1, per=10 * SECOND, burst=1, over=Over.HOLD)
LATER = Active(windows=(Window(start="09:00", end="10:00"),), outside=Over.HOLD)  # T0 is 08:00 of a Friday


def config(run: Any, *, hash: str = "c1", name: str = "t", fields: Any = None, **control: Any) -> Any:
    values = {"run": run, **(fields or {})}
    return make_config([make_trigger(name, control=Control(**control), **values)], hash=hash)


def event(id: str, subject: str = "k", at: int = 0, **fields: Any) -> Any:
    return make_event(id, subject=subject, received_at=T0 + at * SECOND, **fields)
