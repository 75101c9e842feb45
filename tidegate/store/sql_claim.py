"""Claiming runs, in SQL for both databases.

Order of work: leases that ended are taken over; then the pipelines with waiting runs are found by jumping from one to
the next along the index, oldest head first, and each is asked for as many runs as its concurrency leaves room for. So a
pipeline with a hundred thousand waiting runs costs what any other costs.

A run with a priority goes as if it had come a number of runs earlier (`pipelines.run.rank`). What has one is looked at
level by level, so that the first of all by rank are found whatever waits before them.

Within one pipeline the first waiting runs are looked at (`WINDOW`); a run of a lane may start if nothing unfinished
came before it in that lane and nothing of it is under way. When the window is full of runs that wait for their lanes,
the heads of further lanes are looked at, a bounded number per call, going on next time where this one ended.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from pipelines.run import rank
from tidegate.store.records import ClaimAsk, ClaimedRow
from tidegate.store.rows import RUN, TASK, names, run_of, task_of
from tidegate.store.session import Session

DEFAULT_CONCURRENCY = 16
WINDOW = 512
_KEPT = 1_024

_CLAIMS = 7_433  # the class of our advisory locks
_ACTIVE = "state IN ('running', 'cancelling')"
_LANED = "lane IS NOT NULL AND state IN ('queued', 'running', 'cancelling')"


def _heads(lane: str) -> str:
    """Jump along the index of waiting runs: the first of each pipeline."""
    waiting = f"state = 'queued' AND lane {lane}"
    following = (
        f"FROM runs AS r WHERE r.{waiting.replace('lane', 'r.lane')} AND r.pipeline > h.pipeline"
        " ORDER BY r.pipeline, r.seq LIMIT 1"
    )
    return (
        f"h(pipeline, seq) AS (SELECT * FROM (SELECT pipeline, seq FROM runs WHERE {waiting}"
        " ORDER BY pipeline, seq LIMIT 1) AS first UNION ALL"
        f" SELECT (SELECT r.pipeline {following}), (SELECT r.seq {following}) FROM h WHERE h.pipeline IS NOT NULL)"
    )


_HEADS = (
    f"WITH RECURSIVE {_heads('IS NULL')} SELECT pipeline, seq FROM h WHERE pipeline IS NOT NULL",
    f"WITH RECURSIVE {_heads('IS NOT NULL')} SELECT pipeline, seq FROM h WHERE pipeline IS NOT NULL",
)
_NEXT = (
    "FROM runs AS r WHERE r.state = 'queued' AND r.priority > 0 AND (r.pipeline, r.priority) > (u.pipeline, u.priority)"
    " ORDER BY r.pipeline, r.priority, r.seq LIMIT 1"
)
_ACTIVE_AND_URGENT = (
    "WITH RECURSIVE u(pipeline, priority, seq) AS (SELECT * FROM (SELECT pipeline, priority, seq FROM runs"
    " WHERE state = 'queued' AND priority > 0 ORDER BY pipeline, priority, seq LIMIT 1) AS first UNION ALL"
    f" SELECT (SELECT r.pipeline {_NEXT}), (SELECT r.priority {_NEXT}), (SELECT r.seq {_NEXT}) FROM u"
    " WHERE u.pipeline IS NOT NULL)"
    f" SELECT pipeline, lane, 0, 0 FROM runs WHERE {_ACTIVE}"
    " UNION ALL SELECT pipeline, NULL, priority, seq FROM u WHERE pipeline IS NOT NULL"
)
_FREE = "SELECT seq, priority FROM runs WHERE pipeline = ? AND state = 'queued' AND lane IS NULL ORDER BY seq LIMIT ?"
_LANES = (
    "SELECT w.seq, w.priority, w.lane, CASE WHEN EXISTS (SELECT 1 FROM runs AS e WHERE e.pipeline = w.pipeline"
    f" AND e.lane = w.lane AND e.{_LANED.replace('state', 'e.state')} AND e.seq < w.seq) THEN 0 ELSE 1 END"
    " FROM (SELECT seq, priority, pipeline, lane FROM runs WHERE pipeline = ? AND state = 'queued'"
    f" AND lane IS NOT NULL ORDER BY seq LIMIT {WINDOW}) AS w ORDER BY w.seq"
)
_URGENT_FREE = (
    "SELECT seq, priority FROM runs WHERE pipeline = ? AND priority = ? AND state = 'queued' AND priority > 0"
    " AND lane IS NULL ORDER BY seq LIMIT ?"
)
_URGENT_LANES = _LANES.replace("AND lane IS NOT NULL", "AND priority > 0 AND priority = ? AND lane IS NOT NULL")
_LANE_HEADS = (
    "WITH RECURSIVE l(lane, n) AS ("
    f"SELECT (SELECT min(lane) FROM runs WHERE pipeline = ? AND {_LANED} AND lane > ?), 1 UNION ALL"
    f" SELECT (SELECT min(r.lane) FROM runs AS r WHERE r.pipeline = ? AND r.{_LANED.replace('state', 'r.state')}"
    f" AND r.lane > l.lane), l.n + 1 FROM l WHERE l.lane IS NOT NULL AND l.n < {WINDOW})"
    " SELECT l.lane, (SELECT r.seq FROM runs AS r WHERE r.pipeline = ? AND r.lane = l.lane"
    f" AND r.{_LANED.replace('state', 'r.state')} ORDER BY r.seq LIMIT 1),"
    " (SELECT r.state FROM runs AS r WHERE r.pipeline = ? AND r.lane = l.lane"
    f" AND r.{_LANED.replace('state', 'r.state')} ORDER BY r.seq LIMIT 1)"
    " FROM l WHERE l.lane IS NOT NULL"
)


@dataclass(slots=True)
class ClaimMemory:
    """What one store remembers between claims: immutable definitions, and where the search among lanes goes on."""

    definitions: dict[str, str] = field(default_factory=dict)
    lanes: dict[str, str] = field(default_factory=dict)


class ClaimSql:
    """Methods of `Tx` that claim runs."""

    _s: Session
    _memory: ClaimMemory

    def claim_runs(self, asks: Sequence[ClaimAsk], concurrency: Mapping[str, int]) -> Sequence[Sequence[ClaimedRow]]:
        now = self._s.now()
        room = [ask.limit for ask in asks]
        lost = self._lost(asks, now)
        taken = {seq: _give(room, index) for index, seq in lost}
        granted: list[list[int]] = [[] for _ in asks]
        for seq, index in taken.items():
            granted[index].append(seq)
        fresh = self._waiting(sum(room), concurrency) if sum(room) > 0 else []
        for seq in fresh:
            index = next(n for n, left in enumerate(room) if left > 0)
            granted[index].append(seq)
            room[index] -= 1
        for ask, seqs in zip(asks, granted, strict=True):
            if seqs:
                self._s.execute(
                    "UPDATE runs SET holder = ?, lease_until = ?, fence = fence + 1,"
                    " started_at = coalesce(started_at, ?),"
                    " state = CASE WHEN state = 'queued' THEN 'running' ELSE state END"
                    " WHERE seq = ANY(?::bigint[])",
                    ask.holder,
                    now + ask.lease,
                    now,
                    seqs,
                )
        rows = self._rows(sorted(seq for seqs in granted for seq in seqs), frozenset(taken))
        return [[rows[seq] for seq in sorted(seqs)] for seqs in granted]

    def _lost(self, asks: Sequence[ClaimAsk], now: int) -> list[tuple[int, int]]:
        """Lock runs whose lease ended longer than the grace ago; return (ask, seq)."""
        if not asks:
            return []
        limit = sum(ask.limit for ask in asks)
        grace = min(ask.grace for ask in asks)
        found = self._s.select(
            f"SELECT seq, lease_until FROM runs WHERE {_ACTIVE} AND lease_until < ? ORDER BY lease_until, seq LIMIT ?"
            " FOR UPDATE SKIP LOCKED",
            now - grace,
            limit,
        )
        out = []
        left = [ask.limit for ask in asks]
        for seq, until in found:
            for index, ask in enumerate(asks):
                if left[index] > 0 and until < now - ask.grace:
                    left[index] -= 1
                    out.append((index, seq))
                    break
        return out

    def _waiting(self, want: int, concurrency: Mapping[str, int]) -> list[int]:
        """Choose (and lock) up to `want` waiting runs, the first by rank, within lanes and concurrency."""
        heads: dict[str, int] = {}
        for sql in _HEADS:
            for pipeline, seq in self._s.select(sql):
                heads[pipeline] = min(seq, heads.get(pipeline, seq))
        if not heads:
            return []
        active, urgent = self._active()
        for pipeline, levels in urgent.items():
            first = min(rank(seq, priority) for priority, seq in levels.items())
            heads[pipeline] = min(first, heads.get(pipeline, first))
        chosen: list[tuple[int, int]] = []  # (rank, seq)
        for pipeline in sorted(heads, key=heads.__getitem__):
            if len(chosen) >= want and heads[pipeline] > chosen[want - 1][0]:
                break
            most = concurrency.get(pipeline, DEFAULT_CONCURRENCY)
            under_way: Sequence[str | None] | None = active.get(pipeline, [])
            if under_way is not None and len(under_way) < most and self._s.locks:
                under_way = self._alone(pipeline)
            if under_way is not None and len(under_way) < most:
                busy = {lane for lane in under_way if lane is not None}
                room = min(most - len(under_way), want)
                chosen.extend(self._of_pipeline(pipeline, room, busy, sorted(urgent.get(pipeline, ()))))
                chosen.sort()
        seqs = [seq for _, seq in chosen[:want]]
        if self._s.locks and seqs:
            held = self._s.select(
                "SELECT seq FROM runs WHERE seq = ANY(?::bigint[]) AND state = 'queued'"
                " ORDER BY seq FOR UPDATE SKIP LOCKED",
                seqs,
            )
            seqs = [row[0] for row in held]
        return seqs

    def _active(self) -> tuple[dict[str, list[str | None]], dict[str, dict[int, int]]]:
        """Return the lane of every run under way, by pipeline; and the first waiting run of each level of priority."""
        active: dict[str, list[str | None]] = {}
        urgent: dict[str, dict[int, int]] = {}
        for pipeline, lane, priority, seq in self._s.select(_ACTIVE_AND_URGENT):
            if priority:
                urgent.setdefault(pipeline, {})[priority] = seq
            else:
                active.setdefault(pipeline, []).append(lane)
        return active, urgent

    def _alone(self, pipeline: str) -> Sequence[str | None] | None:
        """Keep other replicas from claiming this pipeline until the end of the transaction; return the lanes of its
        runs under way, as they are from now on; None when another replica is claiming it now."""
        lock = self._s.select("SELECT pg_try_advisory_xact_lock(?, hashtext(?))", _CLAIMS, pipeline)
        if not lock[0][0]:
            return None
        return [row[0] for row in self._s.select(f"SELECT lane FROM runs WHERE {_ACTIVE} AND pipeline = ?", pipeline)]

    def _of_pipeline(
        self, pipeline: str, limit: int, busy: AbstractSet[str], levels: Sequence[int]
    ) -> list[tuple[int, int]]:
        """Return up to `limit` runs of a pipeline that may start, as (rank, seq), the first by rank.

        `busy` are lanes with runs under way, `levels` the priorities that wait.
        """
        free = list(self._s.select(_FREE, pipeline, limit))
        window = list(self._s.select(_LANES, pipeline))
        full = len(window) == WINDOW
        for level in levels:
            free += self._s.select(_URGENT_FREE, pipeline, level, limit)
            window += self._s.select(_URGENT_LANES, pipeline, level)
        found = {seq: rank(seq, priority) for seq, priority in free}
        found |= {seq: rank(seq, priority) for seq, priority, lane, first in window if first and lane not in busy}
        if len(found) < limit and full:
            found = {**{seq: seq for seq in self._further_lanes(pipeline, busy)}, **found}
        return sorted((place, seq) for seq, place in found.items())[:limit]

    def _further_lanes(self, pipeline: str, busy: AbstractSet[str]) -> list[int]:
        """Look at the heads of the next lanes in name order, from where the last look ended."""
        start = self._memory.lanes.get(pipeline, "")
        rows = self._s.select(_LANE_HEADS, pipeline, start, pipeline, pipeline, pipeline)
        self._memory.lanes[pipeline] = rows[-1][0] if len(rows) == WINDOW else ""
        return [seq for lane, seq, state in rows if state == "queued" and lane not in busy]

    def _rows(self, seqs: Sequence[int], taken: frozenset[int]) -> dict[int, ClaimedRow]:
        """Read claimed runs with all that their holder needs."""
        if not seqs:
            return {}
        found = self._s.select(
            f"SELECT {names(RUN)}, seq FROM runs WHERE seq = ANY(?::bigint[])",
            seqs,
        )
        uids = [row[0] for row in found]
        events: dict[str, list[str]] = {uid: [] for uid in uids}
        for run, event in self._s.select(
            "SELECT run, event FROM run_events WHERE run = ANY(?) ORDER BY run, pos", uids
        ):
            events[run].append(event)
        tasks: dict[str, list[Sequence[object]]] = {uid: [] for uid in uids}
        for row in self._s.select(f"SELECT {names(TASK)} FROM task_runs WHERE run = ANY(?) ORDER BY run, seq", uids):
            tasks[row[1]].append(row)
        definitions = self._definitions({row[2] for row in found})
        return {
            row[-1]: ClaimedRow(
                run_of(row, events[row[0]]),
                [task_of(task) for task in tasks[row[0]]],
                definitions[row[2]],
                row[-1] in taken,
            )
            for row in found
        }

    def _definitions(self, hashes: set[str]) -> Mapping[str, str]:
        """Return definition texts; they never change, so the store keeps those in use."""
        kept = self._memory.definitions
        missing = [name for name in hashes if name not in kept]
        if missing:
            if len(kept) > _KEPT:
                kept.clear()
                missing = list(hashes)
            kept.update(
                (name, text)
                for name, text in self._s.select("SELECT hash, text FROM definitions WHERE hash = ANY(?)", missing)
            )
        return {name: kept.get(name, "") for name in hashes}


def _give(room: list[int], index: int) -> int:
    room[index] -= 1
    return index
