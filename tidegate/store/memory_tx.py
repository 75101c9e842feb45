"""The in-memory transaction: what the SQL does, in the plainest Python, for tests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, RunState, TaskRun, TaskState
from sensors.batch import Cursor, DeadLetter, ObjectAction, SeenObject
from sensors.event import storable_text
from tidegate.store import memory_actions
from tidegate.store.memory_alerts import MemoryAlerts
from tidegate.store.memory_prune import prune
from tidegate.store.memory_rounds import RoundsMemory
from tidegate.store.memory_state import State
from tidegate.store.memory_watch import WatchMemory
from tidegate.store.records import (
    ClaimAsk,
    ClaimedRow,
    CountKey,
    CursorRow,
    HeldEvent,
    NewId,
    RunUpdate,
    StoredEvent,
    Timer,
)
from triggers.decision import Decision
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState
from triggers.trigger_event import TriggerEvent

_DEFAULT_CONCURRENCY = 16
_ACTIVE = (RunState.RUNNING, RunState.CANCELLING)


class MemoryTx(RoundsMemory, MemoryAlerts, WatchMemory):
    """`Tx` over a copy of the state."""

    def __init__(self, state: State, now: int) -> None:
        self.state = state
        self._now = now

    def now(self) -> int:
        """Return the time at which the transaction began."""
        return self._now

    # -- events ---------------------------------------------------------------------------------------------------
    def lock_cursors(self, names: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], CursorRow]:
        return {name: self.state.cursors[name] for name in names if name in self.state.cursors}

    def put_cursors(self, sensor: str, cursors: Sequence[Cursor]) -> None:
        for cursor in cursors:
            name = (sensor, cursor.shard)
            epoch = self.state.cursors[name].epoch if name in self.state.cursors else 0
            self.state.cursors[name] = CursorRow(sensor, cursor.shard, cursor.value, epoch)

    def raise_epoch(self, sensor: str, shard: str) -> CursorRow:
        old = self.state.cursors.get((sensor, shard), CursorRow(sensor, shard, ""))
        self.state.cursors[sensor, shard] = replace(old, epoch=old.epoch + 1)
        return self.state.cursors[sensor, shard]

    def new_event_ids(self, ids: Sequence[NewId]) -> Mapping[tuple[str, str], str]:
        known = {}
        for new in ids:
            name = (new.sensor, new.id)
            _refuse_hostile(name)
            if name not in known:
                old = self.state.event_ids.get(name)
                if old is None or (old[1] is not None and old[1] <= self._now):
                    self.state.event_ids[name] = (new.uid, new.expires_at)
                known[name] = self.state.event_ids[name][0]
        return known

    def insert_events(self, events: Sequence[StoredEvent]) -> None:
        for stored in events:
            event = stored.event
            _refuse_hostile((event.id, event.source, event.type, event.subject, event.content_type, stored.state))
            _insert(self.state.events, event.uid, stored)

    def put_seen(self, sensor: str, seen: Sequence[SeenObject], forget: Sequence[str]) -> None:
        for item in seen:
            _refuse_hostile((item.key, item.token))
            self.state.seen[sensor, item.key] = item
        for key in forget:
            self.state.seen.pop((sensor, key), None)

    def insert_actions(self, sensor: str, actions: Sequence[ObjectAction]) -> None:
        for action in actions:
            _refuse_hostile((action.key, action.etag, action.to))
        memory_actions.put(self.state, sensor, actions)

    def drop_actions(self, sensor: str, uids: Sequence[str]) -> None:
        memory_actions.drop(self.state, sensor, uids)

    def insert_dead_letters(self, letters: Sequence[tuple[str, str, int, DeadLetter]]) -> None:
        for uid, sensor, at, letter in letters:
            _refuse_hostile((letter.reason, letter.detail, letter.position))
            _insert(self.state.dead_letters, uid, (sensor, at, letter))

    def drop_dead_letters(self, uids: Sequence[str]) -> int:
        return sum(self.state.dead_letters.pop(uid, None) is not None for uid in set(uids))

    # -- decisions and runs ---------------------------------------------------------------------------------------
    def lock_run_keys(self, names: Sequence[RunKeyName]) -> Mapping[RunKeyName, RunKeyState]:
        states = {}
        for name in names:
            state = self.state.run_keys.get(name, RunKeyState(name))
            run = self.state.runs.get(state.last_run or "")
            states[name] = state if run is None else replace(state, last_state=str(run.state))
        return states

    def put_run_keys(self, states: Sequence[RunKeyState]) -> None:
        for state in states:
            self.state.run_keys[state.name] = replace(state, last_state=None)

    def lock_lanes(self, names: Sequence[LaneName]) -> Mapping[LaneName, LaneState]:
        states = {}
        for name in names:
            runs = [
                run
                for run in self.state.runs.values()
                if run.pipeline == name.pipeline and not run.state.final and name.lane in ("", run.lane)
            ]
            states[name] = LaneState(
                name,
                tuple(run.uid for run in runs if run.state != RunState.QUEUED),
                tuple(run.uid for run in runs if run.state == RunState.QUEUED),
            )
        return states

    def put_definitions(self, definitions: Mapping[str, str]) -> None:
        for name, text in definitions.items():
            self.state.definitions.setdefault(name, text)

    def get_definition(self, hash: str) -> str | None:
        return self.state.definitions.get(hash)

    def insert_decisions(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            _refuse_hostile((decision.reason,))
            _insert(self.state.decisions, decision.uid, decision)

    def held(self, trigger: str, limit: int) -> Sequence[HeldEvent]:
        rows = [row for row in self.state.decisions.values() if row.trigger == trigger and row.outcome == "paused"]
        rows.sort(key=lambda row: (row.at, row.uid))
        events = self.state.events
        return [HeldEvent(row.uid, row.events[0], events.get(row.events[0])) for row in rows[:limit]]

    def close_decisions(self, uids: Sequence[str]) -> None:
        for uid in uids:
            self.state.decisions.pop(uid, None)

    def insert_trigger_events(self, events: Sequence[TriggerEvent]) -> None:
        for event in events:
            _refuse_hostile((event.key, event.partition, event.lane))
            _insert(self.state.trigger_events, event.uid, event)

    def insert_runs(self, runs: Sequence[Run], tasks: Sequence[TaskRun]) -> None:
        for run in runs:
            _refuse_hostile((run.key, run.partition, run.lane))
            _insert(self.state.runs, run.uid, replace(run, seq=self.state.next("runs"), events=tuple(run.events)))
        for task in tasks:
            _insert(self.state.tasks, task.uid, task)

    def add_run_events(self, run: str, events: Sequence[str], params: Mapping[str, Any] | None) -> None:
        old = self.state.runs.get(run)
        if old is None or old.state != RunState.QUEUED:
            raise ValueError(f"run {run} does not wait any more, so nothing can be merged into it")
        merged = tuple(dict.fromkeys((*old.events, *events)))
        self.state.runs[run] = replace(old, events=merged, params=old.params if params is None else params)

    def add_counts(self, shard: str, counts: Mapping[CountKey, int]) -> None:
        for key, n in counts.items():
            self.state.counts[key, shard] = self.state.counts.get((key, shard), 0) + n

    # -- dispatch -------------------------------------------------------------------------------------------------
    def claim_runs(self, asks: Sequence[ClaimAsk], concurrency: Mapping[str, int]) -> Sequence[Sequence[ClaimedRow]]:
        granted: list[list[ClaimedRow]] = [[] for _ in asks]
        for run in sorted(self._active(), key=lambda run: (run.lease_until or 0, run.seq)):
            for ask, rows in zip(asks, granted, strict=True):
                if len(rows) < ask.limit and (run.lease_until or 0) < self._now - ask.grace:
                    rows.append(self._claim(run, ask, taken_over=True))
                    break
        for run in list(self.state.runs.values()):
            free = [n for n, ask in enumerate(asks) if len(granted[n]) < ask.limit]
            if free and run.state == RunState.QUEUED and self._may_start(run, concurrency):
                granted[free[0]].append(self._claim(run, asks[free[0]], taken_over=False))
        return [sorted(rows, key=lambda row: row.run.seq) for rows in granted]

    def _active(self) -> list[Run]:
        return [run for run in self.state.runs.values() if run.state in _ACTIVE]

    def _may_start(self, run: Run, concurrency: Mapping[str, int]) -> bool:
        under_way = sum(other.pipeline == run.pipeline for other in self._active())
        if under_way >= concurrency.get(run.pipeline, _DEFAULT_CONCURRENCY):
            return False
        return run.lane is None or not any(
            other.pipeline == run.pipeline
            and other.lane == run.lane
            and ((other.seq < run.seq and not other.state.final) or other.state in _ACTIVE)
            for other in self.state.runs.values()
        )

    def _claim(self, run: Run, ask: ClaimAsk, *, taken_over: bool) -> ClaimedRow:
        claimed = replace(
            run,
            state=RunState.RUNNING if run.state == RunState.QUEUED else run.state,
            holder=ask.holder,
            lease_until=self._now + ask.lease,
            fence=run.fence + 1,
            started_at=self._now if run.started_at is None else run.started_at,
        )
        self.state.runs[run.uid] = claimed
        return ClaimedRow(claimed, self.get_tasks(run.uid), self.state.definitions.get(run.definition, ""), taken_over)

    def renew(self, holder: str, runs: Sequence[str], lease: int) -> tuple[Sequence[str], Mapping[str, str]]:
        lost, cancel = [], {}
        for uid in runs:
            run = self.state.runs.get(uid)
            if run is None or run.holder != holder:
                lost.append(uid)
            elif run.state in _ACTIVE:
                self.state.runs[uid] = replace(run, lease_until=self._now + lease)
                if run.state == RunState.CANCELLING:
                    cancel[uid] = run.cancel_reason or ""
        return lost, cancel

    def fences(self, runs: Sequence[str]) -> Mapping[str, int]:
        return {uid: self.state.runs[uid].fence for uid in runs if uid in self.state.runs}

    def get_runs(self, uids: Sequence[str]) -> Mapping[str, Run]:
        return {uid: self.state.runs[uid] for uid in uids if uid in self.state.runs}

    def get_tasks(self, run: str) -> Sequence[TaskRun]:
        return [task for task in self.state.tasks.values() if task.run == run]

    def update_runs(self, updates: Sequence[RunUpdate]) -> None:
        for update in updates:
            run = self.state.runs.get(update.run)
            if run is not None and run.fence == update.fence:
                self.state.runs[run.uid] = replace(
                    run,
                    state=run.state if update.state is None else RunState(update.state),
                    started_at=_first(update.started_at, run.started_at),
                    finished_at=_first(update.finished_at, run.finished_at),
                    error=_first(update.error, run.error),
                    cancel_reason=_first(update.cancel_reason, run.cancel_reason),
                )

    def upsert_tasks(self, tasks: Sequence[TaskRun]) -> None:
        for task in tasks:
            self.state.tasks[task.uid] = task

    def request_cancel(self, run: str, reason: str) -> str | None:
        old = self.state.runs.get(run)
        if old is None:
            return None
        if old.state == RunState.QUEUED:
            new = replace(old, state=RunState.CANCELLED, cancel_reason=reason, finished_at=self._now)
            for task in self.get_tasks(run):
                if not task.state.final and task.state != TaskState.RUNNING:
                    self.state.tasks[task.uid] = replace(task, state=TaskState.CANCELLED, finished_at=self._now)
        elif old.state == RunState.RUNNING:
            new = replace(old, state=RunState.CANCELLING, cancel_reason=reason)
        else:
            new = old
        self.state.runs[run] = new
        return str(new.state)

    def insert_logs(self, lines: Sequence[LogLine]) -> None:
        for line in lines:
            _refuse_hostile((line.text,))
            self.state.logs[self.state.next("logs")] = line

    def insert_datasets(self, run: str, writes: Sequence[DatasetWrite], checks: Sequence[CheckResult]) -> None:
        for write in writes:
            self.state.writes[self.state.next("writes")] = (run, write)
            name = (write.namespace, write.name)
            if write.mode != "read" or name not in self.state.datasets:
                self.state.datasets[name] = (run, write)
        for check in checks:
            self.state.checks[self.state.next("checks")] = (run, check)

    # -- timers, settings -----------------------------------------------------------------------------------------
    def set_timers(self, timers: Sequence[Timer]) -> None:
        for timer in timers:
            self.state.timers[timer.kind, timer.key] = timer

    def drop_timers(self, names: Sequence[tuple[str, str]]) -> None:
        for name in names:
            self.state.timers.pop(name, None)

    def due_timers(self, limit: int) -> Sequence[Timer]:
        due = sorted(
            (timer for timer in self.state.timers.values() if timer.due <= self._now),
            key=lambda timer: (timer.due, timer.kind, timer.key),
        )[:limit]
        self.drop_timers([(timer.kind, timer.key) for timer in due])
        return due

    def put_setting(self, name: str, value: str | None) -> None:
        if value is None:
            self.state.settings.pop(name, None)
        else:
            self.state.settings[name] = value

    def get_settings(self, prefix: str) -> Mapping[str, str]:
        return {name: value for name, value in sorted(self.state.settings.items()) if name.startswith(prefix)}

    def prune(self, what: str, before: int, limit: int) -> int:
        return prune(self.state, what, before, limit)


def _first(new: Any, old: Any) -> Any:
    return old if new is None else new


def _insert(table: dict[str, Any], uid: str, row: Any) -> None:
    if uid in table:
        raise ValueError(f"{uid} is stored already")
    table[uid] = row


def _refuse_hostile(texts: Iterable[str | None]) -> None:
    """Refuse the text that databases refuse."""
    for text in texts:
        if text is not None and not storable_text(text):
            raise ValueError("Text with a NUL character or a lone surrogate cannot be stored.")
