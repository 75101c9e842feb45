"""Forgetting by age, in SQL for both databases.

A pruned run leaves a stub, the edges to its events and datasets, and its last state with its run key. A pruned event
leaves a stub if an edge names it. Events go only when no kept run, trigger event, open decision or dead letter names
them; a run stays while a kept run was resumed from it; open decisions stay. Each call looks at a bounded number of
rows, oldest first, and goes on next time where it stopped, so that old rows which must stay never hide others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.store.graph import dataset_uid
from tidegate.store.session import Session, insert, json_rows
from tidegate.store.sql_actions import forget_events, forget_old, forget_runs
from tidegate.store.sql_alerts import AlertsPrune
from tidegate.store.sql_replays import prune_replays
from tidegate.store.sql_rounds import prune_rounds

_LOOK = 20  # rows looked at per row that may go

_STUBS = insert("stubs", "uid:t kind:t label:t at:i", "ON CONFLICT (uid) DO NOTHING")
_EDGES = insert("edges", "src:t dst:t kind:t", "ON CONFLICT (src, dst) DO NOTHING")
_OPEN = "('waiting', 'buffered', 'held', 'paused')"


@dataclass(slots=True)
class PruneMemory:
    """Where the look at each kind of row ended, by kind (and sensor)."""

    at: dict[str, Sequence[Any]] = field(default_factory=dict)


class PruneSql(AlertsPrune):
    """The method of `Tx` that forgets."""

    _s: Session
    _pruned: PruneMemory

    def prune(self, what: str, before: int, limit: int) -> int:
        ways: Mapping[str, Callable[[int, int], int]] = {
            "events": self._prune_events,
            "runs": self._prune_runs,
            "decisions": self._prune_decisions,
            "event_ids": self._prune_ids,
            "logs": self._prune_logs,
            "rounds": lambda before, limit: prune_rounds(self._s, before, limit),
            "alerts": self._prune_alerts,
            "replays": lambda before, limit: prune_replays(self._s, before, limit),
        }
        if what not in ways:
            raise ValueError(f"nothing named {what!r} can be pruned; choose one of {', '.join(sorted(ways))}")
        return ways[what](before, limit)

    # -- events -------------------------------------------------------------------------------------------------
    def _prune_events(self, before: int, limit: int) -> int:
        gone = forget_old(self._s, before, limit)
        sensor = ""
        while gone < limit:
            found = self._s.select("SELECT sensor FROM events WHERE sensor > ? ORDER BY sensor LIMIT 1", sensor)
            if not found:
                break
            sensor = found[0][0]
            gone += self._prune_sensor(sensor, before, limit - gone)
        return gone

    def _prune_sensor(self, sensor: str, before: int, limit: int) -> int:
        place = f"events/{sensor}"
        at, uid = self._pruned.at.get(place, (-(2**62), ""))
        look = limit * _LOOK
        rows = self._s.select(
            "SELECT e.uid, e.received_at, e.id, CASE WHEN"
            " EXISTS (SELECT 1 FROM run_events AS r WHERE r.event = e.uid)"
            " OR EXISTS (SELECT 1 FROM trigger_causes AS c WHERE c.event = e.uid)"
            " OR EXISTS (SELECT 1 FROM decision_events AS j JOIN decisions AS d ON d.uid = j.decision"
            f" WHERE j.event = e.uid AND d.outcome IN {_OPEN})"
            " OR (e.state = 'dead' AND EXISTS (SELECT 1 FROM dead_letters AS l WHERE l.event_uid = e.uid))"
            " THEN 1 ELSE 0 END"
            " FROM events AS e WHERE e.sensor = ? AND e.received_at < ? AND (e.received_at, e.uid) > (?, ?)"
            " ORDER BY e.received_at, e.uid LIMIT ?",
            sensor,
            before,
            at,
            uid,
            look,
        )
        go = [row for row in rows if not row[3]][:limit]
        self._remember(place, rows, go, limit, look, lambda row: (row[1], row[0]))
        uids = [row[0] for row in go]
        if uids:
            named = {row[0] for row in self._s.select("SELECT DISTINCT src FROM edges WHERE src = ANY(?)", uids)}
            named |= {row[0] for row in self._s.select("SELECT DISTINCT dst FROM edges WHERE dst = ANY(?)", uids)}
            stubs = [(row[0], "event", f"{sensor}/{row[2]}", row[1]) for row in go if row[0] in named]
            self._s.bulk(_STUBS, sorted(stubs))
            forget_events(self._s, uids)
            self._s.execute("DELETE FROM blobs WHERE uid = ANY(?)", uids)
            self._s.execute("DELETE FROM events WHERE uid = ANY(?)", uids)
        return len(uids)

    def _remember(
        self,
        place: str,
        rows: Sequence[Sequence[Any]],
        go: Sequence[Sequence[Any]],
        limit: int,
        look: int,
        key: Callable[[Sequence[Any]], Sequence[Any]],
    ) -> None:
        """Go on behind the last row looked at; start over once the end was reached."""
        if len(go) == limit and limit:
            self._pruned.at[place] = key(go[-1])
        elif len(rows) == look:
            self._pruned.at[place] = key(rows[-1])
        else:
            self._pruned.at.pop(place, None)

    # -- runs ---------------------------------------------------------------------------------------------------
    def _prune_runs(self, before: int, limit: int) -> int:
        (start,) = self._pruned.at.get("runs", (0,))
        look = limit * _LOOK
        rows = self._s.select(
            "SELECT w.seq, w.uid, w.pipeline, w.key_scope, w.key, w.state, w.trigger_event, w.created_at,"
            " w.resumed_from, CASE WHEN w.state IN ('succeeded', 'failed', 'cancelled')"
            " AND coalesce(w.finished_at, w.created_at) < ?"
            " AND NOT EXISTS (SELECT 1 FROM runs AS n WHERE n.resumed_from = w.uid) THEN 1 ELSE 0 END"
            " FROM (SELECT * FROM runs WHERE seq > ? ORDER BY seq LIMIT ?) AS w WHERE w.created_at < ? ORDER BY w.seq",
            before,
            start,
            look,
            before,
        )
        go = [row for row in rows if row[9]][:limit]
        self._remember("runs", rows, go, limit, look, lambda row: (row[0],))
        if go:
            self._leave_lineage(go)
            self._delete_runs([row[1] for row in go], [row[6] for row in go if row[6] is not None])
        return len(go)

    def _leave_lineage(self, go: Sequence[Sequence[Any]]) -> None:
        uids = [row[1] for row in go]
        self._s.bulk(_STUBS, sorted((row[1], "run", f"{row[2]} {row[5]}", row[7]) for row in go))
        edges = [
            (event, run, "caused")
            for event, run in self._s.select("SELECT event, run FROM run_events WHERE run = ANY(?)", uids)
        ]
        edges += [(row[8], row[1], "resumed") for row in go if row[8] is not None]
        edges += [
            (origin, run, "replayed")
            for origin, run in self._s.select(
                "SELECT origin, run FROM replay_runs WHERE run = ANY(?) AND origin IS NOT NULL", uids
            )
        ]
        for run, namespace, name, mode in self._s.select(
            "SELECT DISTINCT run, namespace, name, mode FROM dataset_writes WHERE run = ANY(?)", uids
        ):
            dataset = dataset_uid(namespace, name)
            edges.append((dataset, run, "read") if mode == "read" else (run, dataset, "wrote"))
        self._s.bulk(_EDGES, sorted(set(edges)))
        for row in go:
            self._s.execute(
                "UPDATE run_keys SET last_state = ? WHERE scope = ? AND pipeline = ? AND key = ? AND last_run = ?",
                row[5],
                row[3],
                row[2],
                row[4],
                row[1],
            )

    def _delete_runs(self, uids: list[str], trigger_events: list[str]) -> None:
        forget_runs(self._s, uids)
        for table in ("run_events", "task_runs", "logs", "dataset_writes", "checks", "replay_runs"):
            self._s.execute(f"DELETE FROM {table} WHERE run = ANY(?)", uids)
        self._s.execute("DELETE FROM runs WHERE uid = ANY(?)", uids)
        left = self._s.select("SELECT trigger_event FROM runs WHERE trigger_event = ANY(?)", trigger_events)
        gone = sorted(set(trigger_events) - {row[0] for row in left})
        self._s.execute("DELETE FROM trigger_causes WHERE trigger_event = ANY(?)", gone)
        self._s.execute("DELETE FROM trigger_events WHERE uid = ANY(?)", gone)

    # -- the rest -----------------------------------------------------------------------------------------------
    def _prune_decisions(self, before: int, limit: int) -> int:
        (start,) = self._pruned.at.get("decisions", ("",))
        look = limit * _LOOK
        rows = self._s.select(
            f"SELECT w.uid, CASE WHEN w.at < ? AND w.outcome NOT IN {_OPEN} THEN 1 ELSE 0 END FROM"
            " (SELECT uid, at, outcome FROM decisions WHERE uid > ? ORDER BY uid LIMIT ?) AS w ORDER BY w.uid",
            before,
            start,
            look,
        )
        go = [row for row in rows if row[1]][:limit]
        self._remember("decisions", rows, go, limit, look, lambda row: (row[0],))
        uids = [row[0] for row in go]
        self._s.execute("DELETE FROM decision_events WHERE decision = ANY(?)", uids)
        self._s.execute("DELETE FROM decisions WHERE uid = ANY(?)", uids)
        return len(uids)

    def _prune_ids(self, before: int, limit: int) -> int:
        rows = self._s.select(
            "SELECT sensor, id FROM event_ids WHERE expires_at IS NOT NULL AND expires_at < ?"
            " ORDER BY expires_at LIMIT ? FOR UPDATE SKIP LOCKED",
            before,
            limit,
        )
        if rows:
            self._s.execute(
                "DELETE FROM event_ids WHERE (sensor, id) IN (SELECT k.a, k.b FROM PAIRS(?) AS k) AND expires_at < ?",
                json_rows(rows),
                before,
            )
        return len(rows)

    def _prune_logs(self, before: int, limit: int) -> int:
        (start,) = self._pruned.at.get("logs", (0,))
        look = limit * _LOOK
        rows = self._s.select(
            "SELECT w.seq, CASE WHEN w.at < ? THEN 1 ELSE 0 END FROM"
            " (SELECT seq, at FROM logs WHERE seq > ? ORDER BY seq LIMIT ?) AS w ORDER BY w.seq",
            before,
            start,
            look,
        )
        go = [row for row in rows if row[1]][:limit]
        self._remember("logs", rows, go, limit, look, lambda row: (row[0],))
        self._s.execute("DELETE FROM logs WHERE seq = ANY(?::bigint[])", [row[0] for row in go])
        return len(go)
