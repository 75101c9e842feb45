"""The run side of a transaction, in SQL for both databases: keys, lanes, decisions, trigger events, runs, counters.

Locks are taken on rows that exist before they are wanted (insert if absent, then lock), in sorted order, and what they
guard is read by a later statement: under READ COMMITTED a statement that had to wait sees the past of what it joins.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.run import Run, TaskRun
from tidegate.store.records import CountKey, HeldEvent
from tidegate.store.rows import (
    DECISION,
    EVENT_ENVELOPE,
    RUN,
    TASK,
    decision_row,
    names,
    run_row,
    stored_of,
    task_row,
    to_json,
)
from tidegate.store.session import Session, insert, json_list, json_rows
from tidegate.store.sql_actions import have_runs
from triggers.decision import Decision
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState
from triggers.trigger_event import TriggerEvent

LANE_SEEN = 256  # runs of one lane that a transaction sees
PIPELINE_SEEN = 1_000  # waiting runs of a whole pipeline that a transaction sees

_KEYS_ABSENT = insert(
    "run_keys", "scope:t pipeline:t key:t generation:i", "ON CONFLICT (scope, pipeline, key) DO NOTHING"
)
_KEYS = insert(
    "run_keys",
    "scope:t pipeline:t key:t generation:i last_run:t",
    "ON CONFLICT (scope, pipeline, key) DO UPDATE SET generation = excluded.generation, last_run = excluded.last_run,"
    " last_state = NULL",
)
_LANES_ABSENT = insert("lanes", "pipeline:t lane:t", "ON CONFLICT (pipeline, lane) DO NOTHING")
_DEFINITIONS = insert("definitions", "hash:t text:t at:i", "ON CONFLICT (hash) DO NOTHING")
_DECISIONS = insert("decisions", DECISION)
_DECISION_EVENTS = insert("decision_events", "decision:t pos:i event:t")
_TRIGGER_EVENTS = insert(
    "trigger_events",
    "uid:t trigger:t version:t at:i pipeline:t key:t params:t partition:t lane:t span:t config_hash:t",
)
_TRIGGER_CAUSES = insert("trigger_causes", "trigger_event:t pos:i event:t")
_RUNS = insert("runs", RUN)
_RUN_EVENTS = insert("run_events", "run:t pos:i event:t")
_TASKS = insert("task_runs", TASK)
_COUNTS = insert(
    "counters",
    "kind:t name:t outcome:t shard:t n:i",
    "ON CONFLICT (kind, name, outcome, shard) DO UPDATE SET n = counters.n + excluded.n",
)
_LANED = "lane IS NOT NULL AND state IN ('queued', 'running', 'cancelling')"


def positions(owned: Iterable[tuple[str, Sequence[str]]]) -> list[tuple[str, int, str]]:
    """Number the events of each owner in order."""
    return [(owner, pos, event) for owner, events in owned for pos, event in enumerate(events)]


class RunsSql:
    """Methods of `Tx` about decisions and runs."""

    _s: Session

    def lock_run_keys(self, names: Sequence[RunKeyName]) -> Mapping[RunKeyName, RunKeyState]:
        if not names:
            return {}
        wanted = sorted(set(names))
        text = json_rows([[name.scope, name.pipeline, name.key] for name in wanted])
        if self._s.locks:
            self._s.bulk(_KEYS_ABSENT, [(name.scope, name.pipeline, name.key, 0) for name in wanted])
            self._s.select(
                "SELECT 1 FROM TRIPLES(?) AS k JOIN run_keys AS t ON t.scope = k.a AND t.pipeline = k.b AND t.key = k.c"
                " ORDER BY t.scope, t.pipeline, t.key FOR UPDATE OF t",
                text,
            )
        rows = self._s.select(
            "SELECT t.scope, t.pipeline, t.key, t.generation, t.last_run, coalesce(r.state, t.last_state)"
            " FROM TRIPLES(?) AS k JOIN run_keys AS t ON t.scope = k.a AND t.pipeline = k.b AND t.key = k.c"
            " LEFT JOIN runs AS r ON r.uid = t.last_run",
            text,
        )
        states = {name: RunKeyState(name) for name in wanted}
        for row in rows:
            name = RunKeyName(row[0], row[1], row[2])
            states[name] = RunKeyState(name, row[3], row[4], row[5])
        return states

    def put_run_keys(self, states: Sequence[RunKeyState]) -> None:
        rows = [
            (state.name.scope, state.name.pipeline, state.name.key, state.generation, state.last_run)
            for state in sorted({state.name: state for state in states}.values(), key=lambda state: state.name)
        ]
        self._s.bulk(_KEYS, rows)

    def lock_lanes(self, names: Sequence[LaneName]) -> Mapping[LaneName, LaneState]:
        wanted = sorted(set(names))
        laned = [name for name in wanted if name.lane]
        whole = [name for name in wanted if not name.lane]
        states = {}
        if wanted and self._s.locks:
            self._s.bulk(_LANES_ABSENT, [(name.pipeline, name.lane) for name in wanted])
            self._s.select(
                "SELECT 1 FROM PAIRS(?) AS k JOIN lanes AS t ON t.pipeline = k.a AND t.lane = k.b"
                " ORDER BY t.pipeline, t.lane FOR UPDATE OF t",
                json_rows([[name.pipeline, name.lane] for name in wanted]),
            )
        if laned:
            text = json_rows([[name.pipeline, name.lane] for name in laned])
            if self._s.locks:  # what waits must not be claimed before this transaction has decided about it
                self._s.select(
                    "SELECT 1 FROM PAIRS(?) AS k JOIN runs AS t ON t.pipeline = k.a AND t.lane = k.b"
                    f" WHERE t.{_LANED.replace('state', 't.state')} AND t.state = 'queued' ORDER BY t.seq"
                    " FOR UPDATE OF t",
                    text,
                )
            rows = self._s.select(
                "SELECT k.a, k.b, (SELECT JSON_ROWS(q.uid, q.state) FROM (SELECT uid, state FROM runs"
                f" WHERE pipeline = k.a AND lane = k.b AND {_LANED} ORDER BY seq LIMIT {LANE_SEEN}) AS q)"
                " FROM PAIRS(?) AS k",
                text,
            )
            for pipeline, lane, members in rows:
                name = LaneName(pipeline, lane)
                states[name] = _lane_state(name, json_list(members))
        for name in whole:
            states[name] = self._whole_pipeline(name)
        return states

    def _whole_pipeline(self, name: LaneName) -> LaneState:
        """Return the runs of a pipeline that are not final, whatever their lane."""
        members = self._s.select(
            "SELECT uid, state, seq FROM ("
            " SELECT uid, state, seq FROM runs WHERE pipeline = ? AND state IN ('running', 'cancelling')"
            " UNION ALL SELECT uid, state, seq FROM (SELECT uid, state, seq FROM runs WHERE pipeline = ?"
            f" AND state = 'queued' AND lane IS NULL ORDER BY seq LIMIT {PIPELINE_SEEN}) AS f"
            " UNION ALL SELECT uid, state, seq FROM (SELECT uid, state, seq FROM runs WHERE pipeline = ?"
            f" AND state = 'queued' AND lane IS NOT NULL ORDER BY seq LIMIT {PIPELINE_SEEN}) AS l"
            ") AS m ORDER BY seq",
            name.pipeline,
            name.pipeline,
            name.pipeline,
        )
        if not self._s.locks:
            return _lane_state(name, members)
        waiting = [row[0] for row in members if row[1] == "queued"]
        held = self._s.select(
            "SELECT uid FROM runs WHERE uid = ANY(?) AND state = 'queued' ORDER BY seq FOR UPDATE", waiting
        )
        still = {row[0] for row in held}
        return _lane_state(name, [row for row in members if row[1] != "queued" or row[0] in still])

    def put_definitions(self, definitions: Mapping[str, str]) -> None:
        now = self._s.now()
        self._s.bulk(_DEFINITIONS, [(name, text, now) for name, text in sorted(definitions.items())])

    def get_definition(self, hash: str) -> str | None:
        rows = self._s.select("SELECT text FROM definitions WHERE hash = ?", hash)
        return str(rows[0][0]) if rows else None

    def insert_decisions(self, decisions: Sequence[Decision]) -> None:
        self._s.bulk(_DECISIONS, [decision_row(decision) for decision in decisions])
        self._s.bulk(_DECISION_EVENTS, positions((decision.uid, decision.events) for decision in decisions))

    def held(self, trigger: str, limit: int) -> Sequence[HeldEvent]:
        uids = [
            row[0]
            for row in self._s.select(
                "SELECT uid FROM decisions WHERE trigger = ? AND outcome = 'paused'"
                " ORDER BY at, uid LIMIT ? FOR UPDATE",
                trigger,
                limit,
            )
        ]
        if not uids:
            return []
        rows = self._s.fetch(
            f"SELECT j.decision, j.event, {names(EVENT_ENVELOPE, 'e.')}, coalesce(e.data, b.data)"
            " FROM decision_events AS j LEFT JOIN events AS e ON e.uid = j.event LEFT JOIN blobs AS b ON b.uid = e.uid"
            " WHERE j.decision = ANY(?)",
            uids,
        )
        found = {row[0]: HeldEvent(row[0], row[1], None if row[2] is None else stored_of(row[2:])) for row in rows}
        return [found[uid] for uid in uids if uid in found]

    def close_decisions(self, uids: Sequence[str]) -> None:
        gone = sorted(set(uids))
        self._s.execute("DELETE FROM decision_events WHERE decision = ANY(?)", gone)
        self._s.execute("DELETE FROM decisions WHERE uid = ANY(?)", gone)

    def insert_trigger_events(self, events: Sequence[TriggerEvent]) -> None:
        rows = [
            (
                event.uid,
                event.trigger,
                event.version,
                event.at,
                event.pipeline,
                event.key,
                to_json(event.params),
                event.partition,
                event.lane,
                event.span,
                event.config_hash,
            )
            for event in events
        ]
        self._s.bulk(_TRIGGER_EVENTS, rows)
        self._s.bulk(_TRIGGER_CAUSES, positions((event.uid, event.events) for event in events))

    def insert_runs(self, runs: Sequence[Run], tasks: Sequence[TaskRun]) -> None:
        self._s.bulk(_RUNS, [run_row(run) for run in runs])
        self._s.bulk(_RUN_EVENTS, positions((run.uid, run.events) for run in runs))
        self._s.bulk(_TASKS, [task_row(task) for task in tasks])
        have_runs(self._s, [event for run in runs for event in run.events])

    def add_run_events(self, run: str, events: Sequence[str], params: Mapping[str, Any] | None) -> None:
        found = self._s.select("SELECT state FROM runs WHERE uid = ? FOR UPDATE", run)
        if not found or found[0][0] != "queued":
            raise ValueError(f"run {run} does not wait any more, so nothing can be merged into it")
        present = self._s.select("SELECT event, pos FROM run_events WHERE run = ? ORDER BY pos", run)
        known = {row[0] for row in present}
        start = present[-1][1] + 1 if present else 0
        fresh = [event for event in dict.fromkeys(events) if event not in known]
        self._s.bulk(_RUN_EVENTS, [(run, start + n, event) for n, event in enumerate(fresh)])
        have_runs(self._s, fresh)
        if params is not None:
            self._s.execute("UPDATE runs SET params = ? WHERE uid = ?", to_json(params), run)

    def add_counts(self, shard: str, counts: Mapping[CountKey, int]) -> None:
        rows = [(kind, name, outcome, shard, n) for (kind, name, outcome), n in sorted(counts.items()) if n]
        self._s.bulk(_COUNTS, rows)


def _lane_state(name: LaneName, members: Sequence[Sequence[Any]]) -> LaneState:
    return LaneState(
        name,
        tuple(row[0] for row in members if row[1] != "queued"),
        tuple(row[0] for row in members if row[1] == "queued"),
    )
