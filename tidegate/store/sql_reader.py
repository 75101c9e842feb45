"""Read-only queries, in SQL for both databases. Runs within one snapshot on a reader's connection."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.run import Run, TaskRun
from sensors.batch import SeenObject
from sensors.event import Event
from tidegate.store import pages
from tidegate.store.graph import Node, dataset_uid, walk
from tidegate.store.reader import Row
from tidegate.store.records import CursorRow
from tidegate.store.rows import (
    DECISION,
    EVENT_ENVELOPE,
    RUN,
    SEEN,
    TASK,
    decision_dict,
    event_dict,
    event_of,
    from_json,
    names,
    run_dict,
    seen_of,
    task_of,
)
from tidegate.store.session import Session, json_list
from tidegate.store.sql_actions import ActionReader
from tidegate.store.sql_alerts import AlertReader
from tidegate.store.sql_datasets import DatasetReader
from tidegate.store.sql_dispatch import read_runs, read_settings
from tidegate.store.sql_history import HistoryReader
from tidegate.store.sql_lineage import LineageSql
from tidegate.store.sql_replays import ReplaysReader
from tidegate.store.sql_slices import SliceReader
from tidegate.store.sql_standing import StandingReader
from tidegate.store.sql_watch import ChecksReader
from tidegate.store.where import Where

Page = tuple[Sequence[Row], str | None]
_EVENT_WITH_DATA = (
    f"SELECT {names(EVENT_ENVELOPE, 'e.')}, coalesce(e.data, b.data)"
    " FROM events AS e LEFT JOIN blobs AS b ON b.uid = e.uid"
)
_SENSORS = (
    "WITH RECURSIVE s(sensor) AS (SELECT (SELECT min(sensor) FROM events) UNION ALL"
    " SELECT (SELECT min(e.sensor) FROM events AS e WHERE e.sensor > s.sensor) FROM s WHERE s.sensor IS NOT NULL)"
)
_SEEN = f"SELECT {names(SEEN)} FROM seen_objects"
_SEEN_FROM = f"{_SEEN} WHERE sensor = ? AND key > ? ORDER BY key LIMIT ?"
_SEEN_BETWEEN = f"{_SEEN} WHERE sensor = ? AND key > ? AND key <= ? ORDER BY key LIMIT ?"
_DEAD_LETTER = ("uid", "sensor", "at", "reason", "detail", "position", "content_type", "event_uid", "attributes")
_LETTERS = "dead_letters LEFT JOIN retried_letters ON letter = uid"
_LETTER_SHOWN = ", ".join(("dead_letters.at" if name == "at" else name) for name in _DEAD_LETTER) + (
    ", length(payload), retried_letters.at, became"
)


class EventReader:
    """Queries about events, decisions and what sensors remember."""

    _s: Session

    def cursors(self, sensor: str) -> Sequence[CursorRow]:
        rows = self._s.select(
            "SELECT sensor, shard, value, epoch FROM cursors WHERE sensor = ? AND value <> '' ORDER BY shard", sensor
        )
        return [CursorRow(*row) for row in rows]

    def seen(self, sensor: str, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        found = seen_of(self._s.columns(f"{_SEEN} WHERE sensor = ? AND key = ANY(?)", sensor, list(keys)))
        return {item.key: item for item in found}

    def seen_after(self, sensor: str, key: str, limit: int, prefix: str) -> Sequence[SeenObject]:
        where = Where()
        where.add("sensor = ?", sensor)
        where.add("state = 'present'")
        where.add("key > ?", key)
        if prefix:
            where.add("key >= ?", prefix)
            where.add("key < ?", after_prefix(prefix))
        return seen_of(self._s.columns(f"{_SEEN}{where.sql} ORDER BY key LIMIT ?", *where.values, limit))

    def seen_range(self, sensor: str, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
        if upto is None:
            return seen_of(self._s.columns(_SEEN_FROM, sensor, after, limit))
        return seen_of(self._s.columns(_SEEN_BETWEEN, sensor, after, upto, limit))

    def event(self, uid: str) -> Event | None:
        rows = self._s.fetch(f"{_EVENT_WITH_DATA} WHERE e.uid = ?", uid)
        return event_of(rows[0]) if rows else None

    def events_of_run(self, run: str, limit: int) -> Sequence[Event]:
        rows = self._s.fetch(
            f"{_EVENT_WITH_DATA} JOIN run_events AS j ON j.event = e.uid WHERE j.run = ? ORDER BY j.pos LIMIT ?",
            run,
            limit,
        )
        return [event_of(row) for row in rows]

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
        place = pages.decode(cursor, int, str)
        where = Where()
        where.add("e.id = ?", id)
        where.add("e.type = ?", type)
        where.add("e.received_at >= ?", since)
        where.add("e.received_at < ?", until)
        if place is not None:
            where.add("(e.received_at, e.uid) < (?, ?)", *place)
        if sensor is not None and id is not None:
            known = self._s.select("SELECT uid FROM event_ids WHERE sensor = ? AND id = ?", sensor, id)
            where.add("e.uid = ?", known[0][0] if known else None)
        conditions = "".join(f" AND {condition}" for condition in where.conditions)
        newest = f"{conditions} ORDER BY e.received_at DESC, e.uid DESC LIMIT ?"
        values = (*where.values, limit + 1)
        if sensor is not None:
            found = [
                tuple(row)
                for row in self._s.select(
                    f"SELECT e.received_at, e.uid FROM events AS e WHERE e.sensor = ?{newest}", sensor, *values
                )
            ]
        else:
            groups = self._s.select(
                f"{_SENSORS} SELECT (SELECT JSON_ROWS(q.received_at, q.uid) FROM (SELECT e.received_at, e.uid"
                f" FROM events AS e WHERE e.sensor = s.sensor{newest}) AS q) FROM s WHERE s.sensor IS NOT NULL",
                *values,
            )
            found = sorted((tuple(row) for (group,) in groups for row in json_list(group)), reverse=True)[: limit + 1]
        keys, after = pages.page(found, limit, found)
        envelopes = self._s.select(
            f"SELECT {names(EVENT_ENVELOPE)} FROM events WHERE uid = ANY(?)", [uid for _, uid in keys]
        )
        by_uid = {row[0]: event_dict(row) for row in envelopes}
        return [by_uid[uid] for _, uid in keys], after

    def held_triggers(self) -> Sequence[str]:
        rows = self._s.select("SELECT DISTINCT trigger FROM decisions WHERE outcome = 'paused' ORDER BY trigger")
        return [row[0] for row in rows]

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
        place = pages.decode(cursor, str)
        where = Where()
        where.add("trigger = ?", trigger)
        where.add("outcome = ?", outcome)
        where.add("at >= ?", since)
        where.add("at < ?", until)
        where.add("uid IN (SELECT decision FROM decision_events WHERE event = ?)", event)
        where.add("uid < ?", None if place is None else place[0])
        rows = self._s.select(
            f"SELECT {names(DECISION)} FROM decisions{where.sql} ORDER BY uid DESC LIMIT ?", *where.values, limit + 1
        )
        rows, after = pages.page(rows, limit, [row[:1] for row in rows])
        events: dict[str, list[str]] = {row[0]: [] for row in rows}
        for decision, judged in self._s.select(
            "SELECT decision, event FROM decision_events WHERE decision = ANY(?) ORDER BY decision, pos", list(events)
        ):
            events[decision].append(judged)
        return [decision_dict(row, events[row[0]]) for row in rows], after

    def dead_letters(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        sensor: str | None = None,
        reason: str | None = None,
        retried: bool | None = None,
    ) -> Page:
        place = pages.decode(cursor, str)
        where = Where()
        where.add("sensor = ?", sensor)
        where.add("reason = ?", reason)
        if retried is not None:
            where.add("letter IS NOT NULL" if retried else "letter IS NULL")
        where.add("uid < ?", None if place is None else place[0])
        rows = self._s.select(
            f"SELECT {_LETTER_SHOWN} FROM {_LETTERS}{where.sql} ORDER BY uid DESC LIMIT ?",
            *where.values,
            limit + 1,
        )
        rows, after = pages.page(rows, limit, [row[:1] for row in rows])
        return [_dead_letter(row) for row in rows], after

    def dead_letter(self, uid: str) -> Row | None:
        rows = self._s.fetch(f"SELECT {_LETTER_SHOWN}, payload FROM {_LETTERS} WHERE uid = ?", uid)
        return {**_dead_letter(rows[0][:-1]), "payload": bytes(rows[0][-1])} if rows else None


class RunReader:
    """Queries about runs and what came out of them."""

    _s: Session

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
        place = pages.decode(cursor, int)
        where = Where()
        where.add("pipeline = ?", pipeline)
        where.add("state = ?", state)
        where.add("trigger = ?", trigger)
        where.add("partition = ?", partition)
        where.add("created_at >= ?", since)
        where.add("created_at < ?", until)
        where.add("uid IN (SELECT run FROM run_events WHERE event = ?)", event)
        where.add("seq < ?", None if place is None else place[0])
        rows = self._s.select(
            f"SELECT {names(RUN)}, seq FROM runs{where.sql} ORDER BY seq DESC LIMIT ?", *where.values, limit + 1
        )
        rows, after = pages.page(rows, limit, [row[-1:] for row in rows])
        return [run_dict(row) for row in rows], after

    def run(self, uid: str) -> Run | None:
        return read_runs(self._s, [uid]).get(uid)

    def tasks(self, run: str) -> Sequence[TaskRun]:
        rows = self._s.select(f"SELECT {names(TASK)} FROM task_runs WHERE run = ? ORDER BY seq", run)
        return [task_of(row) for row in rows]

    def logs(
        self, run: str, *, after: int = 0, limit: int = 1000, task: str | None = None
    ) -> tuple[Sequence[Row], int]:
        where = Where()
        where.add("run = ?", run)
        where.add("seq > ?", after)
        where.add("task = ?", task)
        rows = self._s.select(
            f"SELECT seq, run, task, attempt, at, stream, text FROM logs{where.sql} ORDER BY seq LIMIT ?",
            *where.values,
            limit,
        )
        labels = ("position", "run", "task", "attempt", "at", "stream", "text")
        return [dict(zip(labels, row, strict=True)) for row in rows], rows[-1][0] if rows else after

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
            rows = self._s.select(
                "SELECT namespace, name FROM datasets WHERE name = ? OR dataset = ?", dataset, dataset
            )
            uids = [dataset_uid(*row) for row in rows] or [dataset]
            start.extend(("dataset", uid) for uid in uids)
        return walk(LineageSql(self._s), start, up=up, down=down, limit=limit)

    def counts(self, kind: str) -> Mapping[tuple[str, str], int]:
        rows = self._s.select(
            "SELECT name, outcome, CAST(sum(n) AS BIGINT) FROM counters WHERE kind = ? GROUP BY name, outcome", kind
        )
        return {(name, outcome): n for name, outcome, n in rows}

    def queue(self) -> Mapping[str, Mapping[str, int]]:
        out: dict[str, dict[str, int]] = {}
        heads: dict[str, int] = {}
        for lane in ("IS NULL", "IS NOT NULL"):
            for pipeline, n, head in self._s.select(
                "SELECT pipeline, count(*), min(seq) FROM runs"
                f" WHERE state = 'queued' AND lane {lane} GROUP BY pipeline"
            ):
                states = out.setdefault(pipeline, {})
                states["queued"] = states.get("queued", 0) + n
                heads[pipeline] = min(head, heads.get(pipeline, head))
        for pipeline, state, n in self._s.select(
            "SELECT pipeline, state, count(*) FROM runs"
            " WHERE state IN ('running', 'cancelling') GROUP BY pipeline, state"
        ):
            out.setdefault(pipeline, {})[state] = n
        now = self._s.now()
        for pipeline, at in self._s.select(
            "SELECT pipeline, created_at FROM runs WHERE seq = ANY(?::bigint[])", sorted(heads.values())
        ):
            out[pipeline]["oldest"] = max(0, now - at)
        return out

    def settings(self, prefix: str) -> Mapping[str, str]:
        return read_settings(self._s, prefix)

    def definition(self, hash: str) -> str | None:
        rows = self._s.select("SELECT text FROM definitions WHERE hash = ?", hash)
        return str(rows[0][0]) if rows else None


class SqlReader(
    EventReader,
    DatasetReader,
    ActionReader,
    AlertReader,
    HistoryReader,
    StandingReader,
    ReplaysReader,
    ChecksReader,
    SliceReader,
    RunReader,
):
    """`Reader` over a session."""

    def __init__(self, session: Session) -> None:
        self._s = session


def after_prefix(prefix: str) -> str | None:
    """Return the least text above all that start with `prefix` (by UTF-8 bytes), None when there is none."""
    for index in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[index]) + 1
        if code == 0xD800:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:index] + chr(code)
    return None


def _dead_letter(row: Sequence[Any]) -> dict[str, Any]:
    out = dict(zip((*_DEAD_LETTER, "size", "retried_at", "became"), row, strict=True))
    out["attributes"] = from_json(out["attributes"])
    return out
