"""The neighbours of lineage nodes, in SQL for both databases."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tidegate.store.graph import STUB_EDGES, Edge, dataset_uid
from tidegate.store.reader import Row
from tidegate.store.session import Session, json_rows

# kind of node -> arrows along which it is left: (kind of the other end, kind of the arrow, SQL of own and other uid)
_Way = tuple[str, str, str]

_DOWN: Mapping[str, Sequence[_Way]] = {
    "event": (
        (
            "decision",
            "judged",
            (
                "SELECT j.event, d.uid FROM decision_events AS j JOIN decisions AS d ON d.uid = j.decision"
                " WHERE j.event = ANY(?) AND (d.trigger_event IS NOT NULL OR d.outcome = 'coalesced') ORDER BY d.uid"
            ),
        ),
        ("run", "caused", "SELECT event, run FROM run_events WHERE event = ANY(?) ORDER BY run"),
    ),
    "decision": (
        (
            "trigger_event",
            "fired",
            "SELECT uid, trigger_event FROM decisions WHERE uid = ANY(?) AND trigger_event IS NOT NULL",
        ),
        (
            "run",
            "coalesced",
            "SELECT uid, run FROM decisions WHERE uid = ANY(?) AND run IS NOT NULL AND outcome = 'coalesced'",
        ),
    ),
    "trigger_event": (
        ("run", "started", "SELECT trigger_event, uid FROM runs WHERE trigger_event = ANY(?) ORDER BY seq"),
    ),
    "run": (
        ("task", "ran", "SELECT run, uid FROM task_runs WHERE run = ANY(?) ORDER BY seq"),
        ("event", "emitted", "SELECT cause_run, uid FROM events WHERE cause_run = ANY(?) ORDER BY uid"),
        ("run", "resumed", "SELECT resumed_from, uid FROM runs WHERE resumed_from = ANY(?) ORDER BY seq"),
        ("run", "replayed", "SELECT origin, run FROM replay_runs WHERE origin = ANY(?) ORDER BY run"),
    ),
}
_UP: Mapping[str, Sequence[_Way]] = {
    "event": (("run", "emitted", "SELECT uid, cause_run FROM events WHERE uid = ANY(?) AND cause_run IS NOT NULL"),),
    "decision": (
        (
            "event",
            "judged",
            "SELECT decision, event FROM decision_events WHERE decision = ANY(?) ORDER BY decision, pos",
        ),
    ),
    "trigger_event": (
        (
            "decision",
            "fired",
            (
                "SELECT DISTINCT d.trigger_event, d.uid FROM trigger_causes AS c"
                " JOIN decision_events AS j ON j.event = c.event"
                " JOIN decisions AS d ON d.uid = j.decision AND d.trigger_event = c.trigger_event"
                " WHERE c.trigger_event = ANY(?)"
            ),
        ),
    ),
    "run": (
        (
            "trigger_event",
            "started",
            "SELECT uid, trigger_event FROM runs WHERE uid = ANY(?) AND trigger_event IS NOT NULL",
        ),
        ("event", "caused", "SELECT run, event FROM run_events WHERE run = ANY(?) ORDER BY run, pos"),
        ("run", "resumed", "SELECT uid, resumed_from FROM runs WHERE uid = ANY(?) AND resumed_from IS NOT NULL"),
        ("run", "replayed", "SELECT run, origin FROM replay_runs WHERE run = ANY(?) AND origin IS NOT NULL"),
    ),
    "task": (("run", "ran", "SELECT uid, run FROM task_runs WHERE uid = ANY(?)"),),
}
_DESCRIBE: Mapping[str, tuple[str, str]] = {
    "event": ("events", "uid, sensor, id, type, subject, received_at AS at, span, state"),
    "decision": ("decisions", "uid, trigger, version, outcome, at, reason, span"),
    "trigger_event": ("trigger_events", "uid, trigger, pipeline, key, at, span"),
    "run": (
        "runs",
        "uid, pipeline, state, key, generation, trigger, partition, created_at AS at, finished_at, run_span AS span",
    ),
    "task": ("task_runs", "uid, task, partition, state, engine, attempt, started_at AS at, finished_at, span"),
}
_CHECKED = "SELECT run, count(*), CAST(sum(passed) AS BIGINT) FROM checks WHERE run = ANY(?) GROUP BY run"
_LAST = ("run", "at", "rows", "bytes", "version", "dataset")


class LineageSql:
    """`graph.Neighbours` over a session."""

    def __init__(self, session: Session) -> None:
        self._s = session

    def down(self, kind: str, uids: Sequence[str], limit: int) -> Iterator[Edge]:
        if kind == "dataset":
            yield from self._of_datasets(
                uids, "read", limit, lambda run, uid, _: Edge(("dataset", uid), ("run", run), "read")
            )
        for other, arrow, sql in _DOWN.get(kind, ()):
            for own, uid in self._s.select(f"{sql} LIMIT ?", uids, limit):
                yield Edge((kind, own), (other, uid), arrow)
        if kind == "run":
            yield from self._of_runs(uids, "wrote", limit)
        yield from self._stub_edges(kind, uids, limit, down=True)

    def up(self, kind: str, uids: Sequence[str], limit: int) -> Iterator[Edge]:
        if kind == "dataset":
            yield from self._of_datasets(
                uids, "write", limit, lambda run, uid, rows: Edge(("run", run), ("dataset", uid), "wrote", rows)
            )
        for other, arrow, sql in _UP.get(kind, ()):
            for own, uid in self._s.select(f"{sql} LIMIT ?", uids, limit):
                yield Edge((other, uid), (kind, own), arrow)
        if kind == "run":
            yield from self._of_runs(uids, "read", limit)
        yield from self._stub_edges(kind, uids, limit, down=False)

    def _of_runs(self, runs: Sequence[str], arrow: str, limit: int) -> Iterable[Edge]:
        """Return what runs wrote, or what they read."""
        rows = self._s.select(
            f"SELECT run, namespace, name, CAST(sum(rows) AS BIGINT) FROM dataset_writes WHERE run = ANY(?)"
            f" AND mode {'=' if arrow == 'read' else '<>'} 'read' GROUP BY run, namespace, name LIMIT ?",
            runs,
            limit,
        )
        for run, namespace, name, n in rows:
            dataset = ("dataset", dataset_uid(namespace, name))
            yield Edge(dataset, ("run", run), "read") if arrow == "read" else Edge(("run", run), dataset, "wrote", n)

    def _of_datasets(
        self, uids: Sequence[str], mode: str, limit: int, edge: Callable[[str, str, int | None], Edge]
    ) -> Iterable[Edge]:
        """Return the latest runs that wrote, or read, datasets."""
        for uid in uids:
            for namespace, name in self._names(uid):
                rows = self._s.select(
                    "SELECT run, CAST(sum(rows) AS BIGINT), max(seq) AS last FROM dataset_writes"
                    " WHERE namespace = ? AND name = ?"
                    f" AND mode {'=' if mode == 'read' else '<>'} 'read' GROUP BY run ORDER BY last DESC LIMIT ?",
                    namespace,
                    name,
                    limit,
                )
                yield from (edge(row[0], uid, row[1]) for row in rows)

    def _names(self, uid: str) -> list[tuple[str, str]]:
        """Split a dataset's uid into every (namespace, name) it can stand for, and keep those that exist."""
        cuts = [index for index, letter in enumerate(uid) if letter == "/"]
        pairs = [[uid[:cut] + tail, uid[cut + 1 :]] for cut in cuts for tail in ("", "/")]
        rows = self._s.select(
            "SELECT t.namespace, t.name FROM PAIRS(?) AS k JOIN datasets AS t ON t.namespace = k.a AND t.name = k.b",
            json_rows(pairs),
        )
        return [(row[0], row[1]) for row in rows]

    def _stub_edges(self, kind: str, uids: Sequence[str], limit: int, *, down: bool) -> Iterable[Edge]:
        near, far = ("src", "dst") if down else ("dst", "src")
        rows = self._s.select(
            f"SELECT src, dst, kind FROM edges WHERE {near} = ANY(?) ORDER BY {far} LIMIT ?", uids, limit
        )
        for source, target, arrow in rows:
            kinds = STUB_EDGES[arrow]
            if kinds[0 if down else 1] == kind:
                yield Edge((kinds[0], source), (kinds[1], target), arrow)

    def describe(self, kind: str, uids: Sequence[str]) -> Mapping[str, Row]:
        if kind == "dataset":
            return self._describe_datasets(uids)
        table, columns = _DESCRIBE[kind]
        labels = [column.split(" AS ")[-1] for column in columns.split(", ")]
        rows = self._s.select(f"SELECT {columns} FROM {table} WHERE uid = ANY(?)", uids)
        found = {row[0]: dict(zip(labels[1:], row[1:], strict=True)) for row in rows}
        if kind == "run" and found:
            for run, checked, passed in self._s.select(_CHECKED, list(found)):
                found[run] |= {"checks": checked, "checks_failed": checked - passed}
        return found

    def _describe_datasets(self, uids: Sequence[str]) -> Mapping[str, Row]:
        out: dict[str, Row] = {}
        for uid in uids:
            for namespace, name in self._names(uid):
                found = self._s.select(
                    "SELECT run, at, rows, bytes, version, dataset FROM datasets WHERE namespace = ? AND name = ?",
                    namespace,
                    name,
                )
                last: Row = dict(zip(_LAST, found[0], strict=True)) if found else {}
                out[uid] = {"namespace": namespace, "name": name, **last}
        return out

    def stubs(self, uids: Sequence[str]) -> Mapping[str, Row]:
        rows = self._s.select("SELECT uid, label, at FROM stubs WHERE uid = ANY(?)", uids)
        return {uid: {"label": label, "at": at} for uid, label, at in rows}
