"""Rows with fixed ids and times, for golden span trees."""

from dataclasses import replace
from typing import Any

from pipelines.run import Run, RunState, TaskRun, TaskState
from sensors.event import Event
from tidegate.store.records import StoredEvent
from triggers.decision import Decision, Outcome
from triggers.trigger_event import TriggerEvent

TRACE = "a" * 32
OTHER_TRACE = "b" * 32
NOW = 1_700_000_000_000_000


def context(span: int, trace: str = TRACE, flags: str = "03") -> str:
    """Return the traceparent of the span with this number."""
    return f"00-{trace}-{span:016x}-{flags}"


def stored_event(n: int = 1, span: str | None = None, **changes: Any) -> StoredEvent:
    """Return event number `n`, received one millisecond after the one before it."""
    event = Event(
        sensor="github",
        id=f"delivery-{n}",
        uid=f"evt_{n:026d}",
        source="/hooks/github",
        type="github.push",
        received_at=NOW + n * 1000,
        subject="octo/repo",
        data=b"{}",
    )
    return StoredEvent(replace(event, **changes), span)


def decision(events: list[str], span: str | None, outcome: Outcome = Outcome.FIRED, **changes: Any) -> Decision:
    """Return a decision about these events."""
    made = Decision(
        uid="dec_1",
        trigger="pushed",
        version="v1",
        events=events,
        outcome=outcome,
        at=NOW + 10_000,
        reason="it matched",
        span=span,
    )
    return replace(made, **changes)


def trigger_event(events: list[str], span: str | None, **changes: Any) -> TriggerEvent:
    """Return what that decision fired."""
    made = TriggerEvent(
        uid="trg_1",
        trigger="pushed",
        version="v1",
        at=NOW + 10_000,
        events=events,
        pipeline="orders",
        key="k",
        span=span,
    )
    return replace(made, **changes)


def run(events: list[str], span: str | None, run_span: str | None, **changes: Any) -> Run:
    """Return a run that took a second."""
    made = Run(
        uid="run_1",
        pipeline="orders",
        definition="d",
        state=RunState.SUCCEEDED,
        key="k",
        created_at=NOW + 20_000,
        trigger="pushed",
        trigger_event="trg_1",
        started_at=NOW + 30_000,
        finished_at=NOW + 1_030_000,
        span=span,
        run_span=run_span,
        events=events,
    )
    return replace(made, **changes)


def task_run(span: str | None, **changes: Any) -> TaskRun:
    """Return the first attempt of the task `load`."""
    made = TaskRun(
        uid="tsk_1",
        run="run_1",
        task="load",
        state=TaskState.SUCCEEDED,
        attempt=1,
        engine="python",
        started_at=NOW + 40_000,
        finished_at=NOW + 900_000,
        span=span,
    )
    return replace(made, **changes)
