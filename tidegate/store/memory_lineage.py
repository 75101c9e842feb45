"""The in-memory twin of `sql_lineage`: what is next to what, and how it is described."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tidegate.store.graph import STUB_EDGES, Edge, Node, dataset_uid
from tidegate.store.memory_replays import replayed_edges
from tidegate.store.memory_state import State
from tidegate.store.reader import Row

Page = tuple[Sequence[Row], str | None]

_NEVER_LARGE = 2**62


class MemoryNeighbours:
    """`graph.Neighbours`: all arrows there are, filtered."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._edges = [*self._all(), *replayed_edges(state)]

    def _all(self) -> Iterator[Edge]:
        state = self._state
        for uid, decision in sorted(state.decisions.items()):
            if decision.trigger_event is not None or decision.outcome == "coalesced":
                yield from (Edge(("event", event), ("decision", uid), "judged") for event in decision.events)
            if decision.trigger_event is not None:
                yield Edge(("decision", uid), ("trigger_event", decision.trigger_event), "fired")
            if decision.run is not None and decision.outcome == "coalesced":
                yield Edge(("decision", uid), ("run", decision.run), "coalesced")
        for uid, run in state.runs.items():
            if run.trigger_event is not None:
                yield Edge(("trigger_event", run.trigger_event), ("run", uid), "started")
            yield from (Edge(("event", event), ("run", uid), "caused") for event in run.events)
            if run.resumed_from is not None:
                yield Edge(("run", run.resumed_from), ("run", uid), "resumed")
        for uid, task in state.tasks.items():
            yield Edge(("run", task.run), ("task", uid), "ran")
        for uid, stored in state.events.items():
            if stored.event.cause_run is not None:
                yield Edge(("run", stored.event.cause_run), ("event", uid), "emitted")
        wrote: dict[tuple[Node, Node], int | None] = {}
        for run_uid, write in state.writes.values():
            dataset = ("dataset", dataset_uid(write.namespace, write.name))
            if write.mode == "read":
                yield Edge(dataset, ("run", run_uid), "read")
            else:
                before = wrote.get((("run", run_uid), dataset))
                rows = before if write.rows is None else write.rows + (before or 0)
                wrote[("run", run_uid), dataset] = rows
        yield from (Edge(run, dataset, "wrote", rows) for (run, dataset), rows in wrote.items())
        for (source, target), kind in state.edges.items():
            kinds = STUB_EDGES[kind]
            yield Edge((kinds[0], source), (kinds[1], target), kind)

    def down(self, kind: str, uids: Sequence[str], limit: int) -> Iterable[Edge]:
        return [edge for edge in self._edges if edge.source[0] == kind and edge.source[1] in uids]

    def up(self, kind: str, uids: Sequence[str], limit: int) -> Iterable[Edge]:
        return [
            edge for edge in self._edges if edge.target[0] == kind and edge.target[1] in uids and edge.kind != "ran"
        ]

    def describe(self, kind: str, uids: Sequence[str]) -> Mapping[str, Row]:
        rows = {uid: self._describe(kind, uid) for uid in uids}
        return {uid: row for uid, row in rows.items() if row is not None}

    def _describe(self, kind: str, uid: str) -> Row | None:
        state = self._state
        if kind == "event" and uid in state.events:
            stored = state.events[uid]
            row = pick(stored.event, "sensor", "id", "type", "subject")
            return {**row, "at": stored.event.received_at, "span": stored.span, "state": stored.state}
        if kind == "decision" and uid in state.decisions:
            return pick(state.decisions[uid], "trigger", "version", "outcome", "at", "reason", "span")
        if kind == "trigger_event" and uid in state.trigger_events:
            return pick(state.trigger_events[uid], "trigger", "pipeline", "key", "at", "span")
        if kind == "run" and uid in state.runs:
            run = state.runs[uid]
            row = pick(run, "pipeline", "state", "key", "generation", "trigger", "partition", "finished_at")
            found = [check.passed for of, check in state.checks.values() if of == uid]
            checked = {"checks": len(found), "checks_failed": found.count(False)} if found else {}
            return {**row, "at": run.created_at, "span": run.run_span, **checked}
        if kind == "task" and uid in state.tasks:
            task = state.tasks[uid]
            row = pick(task, "task", "partition", "state", "engine", "attempt", "finished_at", "span")
            return {**row, "at": task.started_at}
        if kind == "dataset":
            for name, (run_uid, write) in state.datasets.items():
                if dataset_uid(*name) == uid:
                    row = pick(write, "namespace", "name", "at", "rows", "bytes", "version")
                    return {**row, "run": run_uid, "dataset": write.dataset or None}
        return None

    def stubs(self, uids: Sequence[str]) -> Mapping[str, Row]:
        found = {uid: self._state.stubs[uid] for uid in uids if uid in self._state.stubs}
        return {uid: {"label": label, "at": at} for uid, (label, at) in found.items()}


def pick(value: Any, *fields: str) -> dict[str, Any]:
    """Return fields of a value by name."""
    return {name: getattr(value, name) for name in fields}
