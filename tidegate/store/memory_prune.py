"""Forgetting by age in the in-memory store: the rules of `sql_prune`, row by row."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from pipelines.run import Run
from tidegate.store import memory_actions
from tidegate.store.graph import dataset_uid
from tidegate.store.memory_alerts import prune_alerts
from tidegate.store.memory_replays import prune_replays
from tidegate.store.memory_rounds import prune_rounds
from tidegate.store.memory_state import State


def prune(state: State, what: str, before: int, limit: int) -> int:
    """Delete up to `limit` rows older than `before` that nothing kept refers to."""
    ways: Mapping[str, Callable[[State, int, int], int]] = {
        "events": _events,
        "runs": _runs,
        "decisions": _decisions,
        "event_ids": _event_ids,
        "logs": _logs,
        "rounds": prune_rounds,
        "alerts": prune_alerts,
        "replays": prune_replays,
    }
    if what not in ways:
        raise ValueError(f"nothing named {what!r} can be pruned; choose one of {', '.join(sorted(ways))}")
    return ways[what](state, before, limit)


def _events(state: State, before: int, limit: int) -> int:
    needed = {event for run in state.runs.values() for event in run.events}
    needed |= {event for fired in state.trigger_events.values() for event in fired.events}
    needed |= {event for decision in state.decisions.values() if decision.outcome.open for event in decision.events}
    dead = {letter.event_uid for _, _, letter in state.dead_letters.values()}
    needed |= {uid for uid, stored in state.events.items() if stored.state == "dead" and uid in dead}
    named = {uid for edge in state.edges for uid in edge}
    old = [stored.event for stored in state.events.values() if stored.event.received_at < before]
    go = [event for event in old if event.uid not in needed][:limit]
    for event in go:
        del state.events[event.uid]
        memory_actions.forget_event(state, event.uid)
        if event.uid in named:
            state.stubs[event.uid] = (f"{event.sensor}/{event.id}", event.received_at)
    return len(go) + memory_actions.forget_old(state, before, limit)


def _runs(state: State, before: int, limit: int) -> int:
    resumed = {run.resumed_from for run in state.runs.values()}
    old = [
        run
        for run in state.runs.values()
        if run.state.final and run.created_at < before and (run.finished_at or run.created_at) < before
    ]
    go = [run for run in old if run.uid not in resumed][:limit]
    for run in go:
        _leave_lineage(state, run)
        del state.runs[run.uid]
        for event_uid in run.events:
            memory_actions.forget_event(state, event_uid)
        if run.trigger_event is not None:
            state.trigger_events.pop(run.trigger_event, None)
        state.tasks = {uid: task for uid, task in state.tasks.items() if task.run != run.uid}
        state.logs = {n: line for n, line in state.logs.items() if line.run != run.uid}
        state.writes = {n: row for n, row in state.writes.items() if row[0] != run.uid}
        state.checks = {n: row for n, row in state.checks.items() if row[0] != run.uid}
    return len(go)


def _leave_lineage(state: State, run: Run) -> None:
    state.stubs[run.uid] = (f"{run.pipeline} {run.state}", run.created_at)
    for event in run.events:
        state.edges[event, run.uid] = "caused"
    if run.resumed_from is not None:
        state.edges[run.resumed_from, run.uid] = "resumed"
    for item, row in list(state.replayed.items()):
        if row.run == run.uid:
            del state.replayed[item]
            if row.origin is not None:
                state.edges[row.origin, run.uid] = "replayed"
    for owner, write in state.writes.values():
        if owner == run.uid:
            dataset = dataset_uid(write.namespace, write.name)
            if write.mode == "read":
                state.edges[dataset, run.uid] = "read"
            else:
                state.edges[run.uid, dataset] = "wrote"
    for name, key in state.run_keys.items():
        if key.last_run == run.uid:
            state.run_keys[name] = replace(key, last_state=str(run.state))


def _decisions(state: State, before: int, limit: int) -> int:
    go = [uid for uid, row in state.decisions.items() if row.at < before and not row.outcome.open][:limit]
    for uid in go:
        del state.decisions[uid]
    return len(go)


def _event_ids(state: State, before: int, limit: int) -> int:
    go = [name for name, (_, until) in state.event_ids.items() if until is not None and until < before][:limit]
    for name in go:
        del state.event_ids[name]
    return len(go)


def _logs(state: State, before: int, limit: int) -> int:
    go = [n for n, line in state.logs.items() if line.at < before][:limit]
    for n in go:
        del state.logs[n]
    return len(go)
