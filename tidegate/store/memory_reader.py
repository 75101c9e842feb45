"""Read-only queries over the in-memory state, for tests: every list is made by looking at every row."""

import heapq
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from pipelines.run import DatasetWrite, Run, RunState, TaskRun
from sensors.batch import ObjectAction, SeenObject
from sensors.event import Event
from tidegate.store import memory_actions, memory_rounds, pages
from tidegate.store.alert_records import Undelivered
from tidegate.store.graph import Node, dataset_uid, walk
from tidegate.store.memory_alerts import read_alerts, undelivered
from tidegate.store.memory_history import MemoryHistory
from tidegate.store.memory_lineage import MemoryNeighbours, pick
from tidegate.store.memory_replays import ReplaysMemoryReader
from tidegate.store.memory_state import State
from tidegate.store.memory_watch import ChecksMemory
from tidegate.store.reader import Row
from tidegate.store.records import CursorRow
from tidegate.store.rows import decision_dict, decision_row, event_dict, event_row, run_dict, run_row
from triggers.round import RoundName

Page = tuple[Sequence[Row], str | None]
_NEVER_LARGE = 2**62


class MemoryReader(ReplaysMemoryReader, MemoryHistory, ChecksMemory):
    """`Reader` over one committed state."""

    def __init__(self, state: State, now: int) -> None:
        self._state = state
        self._now = now

    def cursors(self, sensor: str) -> Sequence[CursorRow]:
        return [row for name, row in sorted(self._state.cursors.items()) if name[0] == sensor and row.value]

    def seen(self, sensor: str, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        return {key: self._state.seen[sensor, key] for key in keys if (sensor, key) in self._state.seen}

    def seen_after(self, sensor: str, key: str, limit: int, prefix: str) -> Sequence[SeenObject]:
        found = [
            item
            for (owner, name), item in self._state.seen.items()
            if owner == sensor and name > key and name.startswith(prefix) and item.state == "present"
        ]
        return sorted(found, key=lambda item: item.key)[:limit]  # code points sort as UTF-8 bytes do

    def seen_range(self, sensor: str, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
        found = [
            item
            for (owner, name), item in self._state.seen.items()
            if owner == sensor and name > after and (upto is None or name <= upto)
        ]
        return heapq.nsmallest(limit, found, key=lambda item: item.key)

    def due_actions(self, sensor: str, limit: int) -> Sequence[ObjectAction]:
        return memory_actions.due(self._state, sensor, limit)

    def open_actions(self, sensor: str, keys: Sequence[str]) -> Mapping[str, Sequence[ObjectAction]]:
        mine = sorted((uid, action) for uid, (owner, action) in self._state.actions.items() if owner == sensor)
        found = {key: [action for _, action in mine if action.key == key] for key in keys}
        return {key: actions for key, actions in found.items() if actions}

    def alerts(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        route: str | None = None,
        kind: str | None = None,
        state: str | None = None,
    ) -> Page:
        return read_alerts(self._state, limit, cursor, route, kind, state)

    def undelivered(self) -> Sequence[Undelivered]:
        return undelivered(self._state)

    def known_events(self, sensor: str, ids: Sequence[str]) -> Mapping[str, str]:
        known = self._state.event_ids
        return {name: known[sensor, name][0] for name in ids if (sensor, name) in known}

    def open_keys(self) -> Mapping[tuple[str, str], int]:
        return memory_rounds.open_keys(self._state)

    def stale_keys(self, trigger: str, meaning: str, limit: int) -> Sequence[RoundName]:
        return memory_rounds.stale_keys(self._state, trigger, meaning)[:limit]

    def unfinished_events(self, events: Sequence[str]) -> AbstractSet[str]:
        under_way = {event for run in self._state.runs.values() if not run.state.final for event in run.events}
        waiting = {event for row in self._state.decisions.values() if row.outcome.open for event in row.events}
        return (under_way | waiting) & set(events)

    def event(self, uid: str) -> Event | None:
        stored = self._state.events.get(uid)
        return None if stored is None else stored.event

    def events_of_run(self, run: str, limit: int) -> Sequence[Event]:
        uids = self._state.runs[run].events if run in self._state.runs else ()
        return [self._state.events[uid].event for uid in uids if uid in self._state.events][:limit]

    def events(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        sensor: str | None = None,
        id: str | None = None,
        type: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> Page:
        known = self._state.event_ids.get((sensor, id)) if sensor is not None and id is not None else None
        rows = [
            event_dict(event_row(stored, _NEVER_LARGE)[:-1])
            for stored in self._state.events.values()
            if (sensor is None or stored.event.sensor == sensor)
            and (id is None or stored.event.id == id)
            and (known is None or stored.event.uid == known[0])
            and (type is None or stored.event.type == type)
            and (since is None or stored.event.received_at >= since)
            and (until is None or stored.event.received_at < until)
        ]
        return _page(rows, limit, cursor, ("received_at", "uid"), (int, str))

    def held_triggers(self) -> Sequence[str]:
        return sorted({row.trigger for row in self._state.decisions.values() if row.outcome == "paused"})

    def decisions(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        trigger: str | None = None,
        event: str | None = None,
        outcome: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> Page:
        rows = [
            decision_dict(decision_row(decision), decision.events)
            for decision in self._state.decisions.values()
            if (trigger is None or decision.trigger == trigger)
            and (event is None or event in decision.events)
            and (outcome is None or decision.outcome == outcome)
            and (since is None or decision.at >= since)
            and (until is None or decision.at < until)
        ]
        return _page(rows, limit, cursor, ("uid",), (str,))

    def runs(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        pipeline: str | None = None,
        state: str | None = None,
        trigger: str | None = None,
        event: str | None = None,
        partition: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> Page:
        rows = [
            run_dict((*run_row(run), run.seq))
            for run in self._state.runs.values()
            if (pipeline is None or run.pipeline == pipeline)
            and (state is None or run.state == state)
            and (trigger is None or run.trigger == trigger)
            and (event is None or event in run.events)
            and (partition is None or run.partition == partition)
            and (since is None or run.created_at >= since)
            and (until is None or run.created_at < until)
        ]
        return _page(rows, limit, cursor, ("seq",), (int,))

    def run(self, uid: str) -> Run | None:
        return self._state.runs.get(uid)

    def tasks(self, run: str) -> Sequence[TaskRun]:
        return [task for task in self._state.tasks.values() if task.run == run]

    def nodes(self, run: str) -> Sequence[TaskRun]:
        return [task for task in self.tasks(run) if not task.partition]

    def slice_counts(self, run: str) -> Mapping[str, Mapping[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for task in self.tasks(run):
            if task.partition:
                counts = found.setdefault(task.task, {})
                counts[str(task.state)] = counts.get(str(task.state), 0) + 1
        return found

    def slices(
        self, run: str, *, limit: int, cursor: str | None = None, task: str | None = None, state: str | None = None
    ) -> tuple[Sequence[TaskRun], str | None]:
        place = pages.decode(cursor, int)
        rows = [
            (one, (number,))
            for number, one in enumerate(self.tasks(run), 1)
            if one.partition and task in (None, one.task) and state in (None, str(one.state))
        ]
        rows = [row for row in rows if place is None or row[1][0] > place[0]][: limit + 1]
        found, after = pages.page(rows, limit, [row[1] for row in rows])
        return [one for one, _ in found], after

    def logs(
        self, run: str, *, after: int = 0, limit: int = 1000, task: str | None = None
    ) -> tuple[Sequence[Row], int]:
        rows = [
            {
                "position": n,
                "run": line.run,
                "task": line.task,
                "attempt": line.attempt,
                "at": line.at,
                "stream": line.stream,
                "text": line.text,
            }
            for n, line in self._state.logs.items()
            if line.run == run and n > after and (task is None or line.task == task)
        ][:limit]
        return rows, rows[-1]["position"] if rows else after  # type: ignore[return-value]  # positions are numbers

    def dead_letters(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        sensor: str | None = None,
        reason: str | None = None,
        retried: bool | None = None,
    ) -> Page:
        rows = [
            self._dead_letter(uid)
            for uid, (owner, _, letter) in self._state.dead_letters.items()
            if (sensor is None or owner == sensor)
            and (reason is None or letter.reason == reason)
            and (retried is None or (uid in self._state.retried) is retried)
        ]
        return _page(rows, limit, cursor, ("uid",), (str,))

    def dead_letter(self, uid: str) -> Row | None:
        if uid not in self._state.dead_letters:
            return None
        return {**self._dead_letter(uid), "payload": self._state.dead_letters[uid][2].payload}

    def _dead_letter(self, uid: str) -> Row:
        sensor, at, letter = self._state.dead_letters[uid]
        retried_at, became = self._state.retried.get(uid, (None, None))
        return {
            "uid": uid,
            "sensor": sensor,
            "at": at,
            "reason": letter.reason,
            "detail": letter.detail,
            "position": letter.position,
            "content_type": letter.content_type,
            "event_uid": letter.event_uid,
            "attributes": dict(letter.attributes),
            "size": len(letter.payload),
            "retried_at": retried_at,
            "became": became,
        }

    def datasets(self, *, limit: int, cursor: str | None = None) -> Page:
        rows = [_dataset(run, write) for _, (run, write) in sorted(self._state.datasets.items())]
        place = pages.decode(cursor, str, str)
        if place is not None:
            rows = [row for row in rows if [row["namespace"], row["name"]] > list(place)]
        return pages.page(rows, limit, [[row["namespace"], row["name"]] for row in rows])

    def dataset(self, name: str, namespace: str | None = None) -> Sequence[Row]:
        rows = [_dataset(run, write) for run, write in self._state.datasets.values()]
        for field in ("dataset", "name"):
            found = [row for row in rows if row[field] == name and namespace in (None, row["namespace"])]
            if found:
                return sorted(found, key=lambda row: (-row["at"], row["namespace"], row["name"]))
        return []

    def dataset_writes(self, namespace: str, name: str, *, limit: int, cursor: str | None = None) -> Page:
        place = pages.decode(cursor, int)
        rows = [
            (seq, _dataset(run, write))
            for seq, (run, write) in sorted(self._state.writes.items(), reverse=True)
            if (write.namespace, write.name) == (namespace, name) and (place is None or seq < place[0])
        ]
        kept, after = pages.page(rows, limit, [[seq] for seq, _ in rows])
        return [row for _, row in kept], after

    def lineage(
        self,
        *,
        event: str | None = None,
        run: str | None = None,
        dataset: str | None = None,
        up: bool = True,
        down: bool = True,
        limit: int = 1000,
    ) -> Row:
        start: list[Node] = []
        if event is not None:
            start.append(("event", event))
        if run is not None:
            start.append(("run", run))
        if dataset is not None:
            known = self._state.datasets.items()
            uids = [dataset_uid(*name) for name, (_, write) in known if dataset in (name[1], write.dataset)] or [
                dataset
            ]
            start.extend(("dataset", uid) for uid in uids)
        return walk(MemoryNeighbours(self._state), start, up=up, down=down, limit=limit)

    def counts(self, kind: str) -> Mapping[tuple[str, str], int]:
        out: dict[tuple[str, str], int] = {}
        for ((found, name, outcome), _), n in self._state.counts.items():
            if found == kind:
                out[name, outcome] = out.get((name, outcome), 0) + n
        return out

    def queue(self) -> Mapping[str, Mapping[str, int]]:
        out: dict[str, dict[str, int]] = {}
        for run in self._state.runs.values():
            if not run.state.final:
                states = out.setdefault(run.pipeline, {})
                states[str(run.state)] = states.get(str(run.state), 0) + 1
                if run.state == RunState.QUEUED:
                    states.setdefault("oldest", max(0, self._now - run.created_at))
        return out

    def settings(self, prefix: str) -> Mapping[str, str]:
        return {name: value for name, value in sorted(self._state.settings.items()) if name.startswith(prefix)}

    def definition(self, hash: str) -> str | None:
        return self._state.definitions.get(hash)


def _dataset(run: str, write: DatasetWrite) -> Row:
    row = pick(write, "namespace", "name", "task", "at", "mode", "rows", "bytes", "version", "disposition")
    return {
        **row,
        "run": run,
        "schema": [list(field) for field in write.schema],
        "dataset": write.dataset or None,
        "partition": write.partition or None,
        "changes": dict(write.changes),
    }


def _page(rows: Sequence[Row], limit: int, cursor: str | None, by: Sequence[str], shape: Sequence[type]) -> Page:
    """Sort newest first and cut a page."""
    place = pages.decode(cursor, *shape)
    ordered = sorted(rows, key=lambda row: [row[name] for name in by], reverse=True)
    if place is not None:
        ordered = [row for row in ordered if [row[name] for name in by] < list(place)]
    return pages.page(ordered, limit, [[row[name] for name in by] for row in ordered])
