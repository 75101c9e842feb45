"""Replays in SQL for both databases: their rows, the runs they started, and what they select from.

Selections walk along an index from where the last page ended, so that a page of a million events costs what any other
does.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, fields
from typing import Any

import orjson

from pipelines.run import Run
from tidegate.store import pages
from tidegate.store.replay_records import Replay, ReplayedRun, ReplaySpec, ReplayState
from tidegate.store.rows import from_json, names, to_json
from tidegate.store.session import Session, insert, json_list
from tidegate.store.sql_dispatch import read_runs
from triggers.trigger_event import TriggerEvent

_REPLAY = (
    "uid:t request_id:t spec:t created_at:i state:t position:t counts:t samples:t next_at:i holder:t lease_until:i"
    " finished_at:i reason:t"
)
_REPLAYED = "replay:t cause:t trigger:t rule:i item:i run:t origin:t"
_INSERT = insert("replays", _REPLAY, "ON CONFLICT (request_id) DO NOTHING")
_INSERT_RUNS = insert("replay_runs", _REPLAYED)
_LETTERS = insert(
    "retried_letters",
    "letter:t at:i became:t",
    "ON CONFLICT (letter) DO UPDATE SET at = excluded.at, became = excluded.became",
)
_OPEN = "state IN ('queued', 'running')"
_ORIGINAL = (
    "r.trigger_event IS NOT NULL AND r.resumed_from IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM replay_runs AS x WHERE x.run = r.uid)"
)


class ReplaysSql:
    """Methods of `Tx` about replays."""

    _s: Session

    def insert_replay(self, replay: Replay, most: int) -> Replay | None:
        rows = self._s.select(f"SELECT {names(_REPLAY)} FROM replays WHERE request_id = ?", replay.request_id)
        if rows:
            return _replay(rows[0])
        if self._s.select(f"SELECT count(*) FROM replays WHERE {_OPEN}")[0][0] >= most:
            return None
        if self._s.bulk(_INSERT, [_row(replay)]):
            return replay
        rows = self._s.select(f"SELECT {names(_REPLAY)} FROM replays WHERE request_id = ?", replay.request_id)
        return _replay(rows[0])

    def lock_replay(self, uid: str) -> Replay | None:
        rows = self._s.select(f"SELECT {names(_REPLAY)} FROM replays WHERE uid = ? FOR UPDATE", uid)
        return _replay(rows[0]) if rows else None

    def put_replay(self, replay: Replay) -> None:
        row = _row(replay)
        columns = names(_REPLAY).split(", ")[4:]
        changes = ", ".join(f"{column} = ?" for column in columns)
        self._s.execute(f"UPDATE replays SET {changes} WHERE uid = ?", *row[4:], replay.uid)

    def insert_replayed(self, rows: Sequence[ReplayedRun]) -> None:
        self._s.bulk(
            _INSERT_RUNS,
            [(row.replay, row.cause, row.trigger, row.rule, row.item, row.run, row.origin) for row in rows],
        )

    def replayed(self, replay: str, causes: Sequence[str]) -> AbstractSet[tuple[str, str, int, int]]:
        rows = self._s.select(
            "SELECT cause, trigger, rule, item FROM replay_runs WHERE replay = ? AND cause = ANY(?)",
            replay,
            sorted(set(causes)),
        )
        return {(row[0], row[1], row[2], row[3]) for row in rows}

    def fired_by_events(self, events: Sequence[str]) -> Mapping[str, Sequence[Run]]:
        rows = self._s.select(
            "SELECT j.event, r.uid, r.seq FROM run_events AS j JOIN runs AS r ON r.uid = j.run"
            f" WHERE j.event = ANY(?) AND {_ORIGINAL} ORDER BY j.event, r.seq",
            sorted(set(events)),
        )
        runs = read_runs(self._s, [row[1] for row in rows]) if rows else {}
        found: dict[str, list[Run]] = {}
        for event, run, _ in rows:
            found.setdefault(event, []).append(runs[run])
        return found

    def fired_as(self, trigger_events: Sequence[str]) -> Mapping[str, tuple[TriggerEvent, Run]]:
        rows = self._s.select(
            "SELECT t.uid, t.trigger, t.version, t.at, t.pipeline, t.key, t.params, t.partition, t.lane, t.span,"
            f" t.config_hash, r.uid FROM trigger_events AS t JOIN runs AS r ON r.trigger_event = t.uid AND {_ORIGINAL}"
            " WHERE t.uid = ANY(?) ORDER BY r.seq",
            sorted(set(trigger_events)),
        )
        runs = read_runs(self._s, [row[11] for row in rows]) if rows else {}
        found: dict[str, tuple[TriggerEvent, Run]] = {}
        for row in rows:
            found.setdefault(row[0], (_trigger_event(row), runs[row[11]]))
        return found

    def forgotten_runs(self, events: Sequence[str]) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for event, run in self._s.select(
            "SELECT src, dst FROM edges WHERE src = ANY(?) AND kind = 'caused' ORDER BY src, dst", sorted(set(events))
        ):
            found.setdefault(event, []).append(run)
        return found

    def fired_items(self, trigger_events: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        rows = self._s.select(
            "SELECT DISTINCT d.trigger_event, d.item, d.details FROM trigger_causes AS c"
            " JOIN decision_events AS j ON j.event = c.event"
            " JOIN decisions AS d ON d.uid = j.decision AND d.trigger_event = c.trigger_event"
            " WHERE c.trigger_event = ANY(?)",
            sorted(set(trigger_events)),
        )
        return {row[0]: (from_json(row[2]).get("rule", 0), -1 if row[1] is None else row[1]) for row in rows}

    def mark_letters(self, letters: Mapping[str, str]) -> int:
        kept = self._s.select("SELECT uid FROM dead_letters WHERE uid = ANY(?) FOR UPDATE", sorted(letters))
        now = self._s.now()
        return self._s.bulk(_LETTERS, sorted((row[0], now, letters[row[0]]) for row in kept))


class ReplaysReader:
    """Queries about replays."""

    _s: Session

    def replays(
        self, *, limit: int, cursor: str | None = None, state: str | None = None
    ) -> tuple[Sequence[Replay], str | None]:
        place = pages.decode(cursor, str)
        wanted = [("state = ?", state), ("uid < ?", None if place is None else place[0])]
        conditions = [(condition, value) for condition, value in wanted if value is not None]
        where = " WHERE " + " AND ".join(condition for condition, _ in conditions) if conditions else ""
        rows = self._s.select(
            f"SELECT {names(_REPLAY)} FROM replays{where} ORDER BY uid DESC LIMIT ?",
            *(value for _, value in conditions),
            limit + 1,
        )
        rows, after = pages.page(rows, limit, [row[:1] for row in rows])
        return [_replay(row) for row in rows], after

    def replay(self, uid: str) -> Replay | None:
        rows = self._s.select(f"SELECT {names(_REPLAY)} FROM replays WHERE uid = ?", uid)
        return _replay(rows[0]) if rows else None

    def due_replays(self, limit: int) -> Sequence[Replay]:
        rows = self._s.select(
            f"SELECT {names(_REPLAY)} FROM replays WHERE {_OPEN} ORDER BY next_at, uid LIMIT ?", limit
        )
        return [_replay(row) for row in rows]

    def replayed_runs(
        self, replay: str, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        place = pages.decode(cursor, str)
        rows = self._s.select(
            f"SELECT {names(_REPLAYED, 'x.')}, r.pipeline, r.state, r.partition, r.generation"
            " FROM (SELECT * FROM replay_runs WHERE replay = ? AND run < ? ORDER BY run DESC LIMIT ?) AS x"
            " LEFT JOIN runs AS r ON r.uid = x.run ORDER BY x.run DESC",
            replay,
            "run~" if place is None else place[0],
            limit + 1,
        )
        rows, after = pages.page(rows, limit, [row[5:6] for row in rows])
        labels = (*names(_REPLAYED).split(", "), "pipeline", "state", "partition", "generation")
        return [dict(zip(labels, row, strict=True)) for row in rows], after

    def replay_of(self, run: str) -> ReplayedRun | None:
        rows = self._s.select(f"SELECT {names(_REPLAYED)} FROM replay_runs WHERE run = ?", run)
        return ReplayedRun(*rows[0]) if rows else None

    def received_between(
        self, sensors: Sequence[str], after: tuple[int, str], until: int, limit: int
    ) -> Sequence[tuple[int, str, int]]:
        found: list[tuple[int, str, int]] = []
        for sensor in sensors:
            rows = self._s.select(
                "SELECT received_at, uid, size FROM events WHERE sensor = ? AND (received_at, uid) > (?, ?)"
                " AND received_at < ? ORDER BY received_at, uid LIMIT ?",
                sensor,
                *after,
                until,
                limit,
            )
            found += [(row[0], row[1], row[2]) for row in rows]
        return sorted(found)[:limit]

    def fired_between(self, trigger: str, after: str, before: str, limit: int) -> tuple[Sequence[str], str]:
        rows = self._s.select(
            "SELECT t.uid, t.trigger, (SELECT JSON_ROWS(q.uid) FROM (SELECT r.uid FROM runs AS r"
            f" WHERE r.trigger_event = t.uid AND {_ORIGINAL} LIMIT 1) AS q)"
            " FROM (SELECT uid, trigger FROM trigger_events WHERE uid > ? AND uid < ? ORDER BY uid LIMIT ?) AS t"
            " ORDER BY t.uid",
            after,
            before,
            limit,
        )
        wanted = [row[0] for row in rows if row[1] == trigger and json_list(row[2])]
        return wanted, rows[-1][0] if len(rows) == limit else ""


def prune_replays(session: Session, before: int, limit: int) -> int:
    """Forget replays that ended before a moment, and letters that were tried again before it; runs stay."""
    gone = session.execute(
        "DELETE FROM replays WHERE uid IN (SELECT uid FROM replays WHERE finished_at < ? ORDER BY uid LIMIT ?)",
        before,
        limit,
    )
    rows = session.select("SELECT letter FROM retried_letters WHERE at < ? ORDER BY at LIMIT ?", before, limit)
    letters = [row[0] for row in rows]
    session.execute("DELETE FROM dead_letters WHERE uid = ANY(?)", letters)
    return gone + session.execute("DELETE FROM retried_letters WHERE letter = ANY(?)", letters)


def _row(replay: Replay) -> tuple[Any, ...]:
    spec = {name: value for name, value in asdict(replay.spec).items() if value not in (None, (), False)}
    return (
        replay.uid,
        replay.request_id,
        orjson.dumps(spec).decode(),
        replay.created_at,
        str(replay.state),
        replay.position,
        to_json(replay.counts) or "{}",
        orjson.dumps([dict(sample) for sample in replay.samples]).decode(),
        replay.next_at,
        replay.holder,
        replay.lease_until,
        replay.finished_at,
        replay.reason,
    )


def _replay(row: Sequence[Any]) -> Replay:
    known = {field.name for field in fields(ReplaySpec)}
    spec = {name: value for name, value in orjson.loads(row[2]).items() if name in known}
    spec |= {name: tuple(spec[name]) for name in ("events", "letters") if name in spec}
    return Replay(
        uid=row[0],
        request_id=row[1],
        spec=ReplaySpec(**spec),
        created_at=row[3],
        state=ReplayState(row[4]),
        position=row[5],
        counts=orjson.loads(row[6]),
        samples=orjson.loads(row[7]),
        next_at=row[8],
        holder=row[9],
        lease_until=row[10],
        finished_at=row[11],
        reason=row[12],
    )


def _trigger_event(row: Sequence[Any]) -> TriggerEvent:
    return TriggerEvent(
        uid=row[0],
        trigger=row[1],
        version=row[2],
        at=row[3],
        events=(),
        pipeline=row[4],
        key=row[5],
        params=from_json(row[6]),
        partition=row[7],
        lane=row[8],
        span=row[9],
        config_hash=row[10],
    )
