"""What one transaction made durable becomes spans and metrics, after it and off the answer's path.

In flow the facts of a group commit with all their contexts; spans go out in causal order: process, evaluate, trigger.
A RUN span follows when the run has ended (`observers`). Contexts of events that are not among the facts (parts of a
join that came earlier) may be given in `known`.
"""

from collections.abc import Mapping

from pipelines.run import Run
from tidegate.absorb import Facts
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.model import evaluate_edges, process_edges, stored_parent, trigger_edges
from tidegate.telemetry.tracing import Tracing

_NOTHING: Mapping[str, str] = {}


def project(
    facts: Facts, tracing: Tracing, instruments: Instruments, now: int, known: Mapping[str, str] = _NOTHING
) -> None:
    """Hand over the spans and count what happened. `now` is UTC microseconds: when the facts were durable.

    Call it on the loop, within a `guarded` function or a task of its own; it costs a few microseconds per event.
    """
    end = now * 1000
    spans = dict(known)
    for stored in facts.events:
        event = stored.event
        if stored.span is not None:
            spans[event.uid] = stored.span
        parent = facts.parents.get(event.uid)
        links = () if event.traceparent is None else process_edges(parent, event.traceparent).links
        tracing.event(stored, event.received_at * 1000, end, parent, links)
        instruments.event(event.sensor, max(0, now - event.received_at) / 1e6)
    evaluated: dict[str, str] = {}
    for decision in facts.decisions:
        instruments.decision(decision.trigger, decision.outcome.value)
        if decision.span is None:
            continue
        if decision.trigger_event is not None:
            evaluated[decision.trigger_event] = decision.span
        edges = evaluate_edges([spans[uid] for uid in decision.events if uid in spans])
        parent = stored_parent(decision.span, edges.parent)
        tracing.decision(decision, parent, edges.links, min(end, decision.at * 1000), end)
    for check in facts.checks:
        instruments.checked(check.dataset, check.check, passed=check.passed, severity=check.severity)
    if facts.trigger_events:
        runs: dict[str | None, Run] = {run.trigger_event: run for run in facts.runs}
        for fired in facts.trigger_events:
            instruments.triggered(fired.trigger, fired.pipeline)
            causes = [spans[uid] for uid in fired.events if uid in spans]
            above = evaluated.get(fired.uid) or (causes[0] if len(causes) == 1 else None)
            edges = trigger_edges(stored_parent(fired.span, above), causes)
            tracing.trigger_event(fired, runs.get(fired.uid), edges.parent, edges.links, min(end, fired.at * 1000), end)
