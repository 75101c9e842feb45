"""Replays in memory: the rules of `sql_replays`, in the plainest Python."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, replace
from typing import Any

from pipelines.run import Run
from tidegate.store import pages
from tidegate.store.graph import Edge
from tidegate.store.memory_state import State
from tidegate.store.replay_records import Replay, ReplayedRun
from triggers.trigger_event import TriggerEvent


class ReplaysMemory:
    """Methods of `Tx` about replays."""

    state: State
    _now: int

    def insert_replay(self, replay: Replay, most: int) -> Replay | None:
        for kept in self.state.replays.values():
            if kept.request_id == replay.request_id:
                return kept
        if sum(not one.state.final for one in self.state.replays.values()) >= most:
            return None
        self.state.replays[replay.uid] = replay
        return replay

    def lock_replay(self, uid: str) -> Replay | None:
        return self.state.replays.get(uid)

    def put_replay(self, replay: Replay) -> None:
        kept = self.state.replays[replay.uid]
        self.state.replays[replay.uid] = replace(
            replay, request_id=kept.request_id, spec=kept.spec, created_at=kept.created_at
        )

    def insert_replayed(self, rows: Sequence[ReplayedRun]) -> None:
        for row in rows:
            name = (row.replay, row.cause, row.trigger, row.rule, row.item)
            if name in self.state.replayed:
                raise ValueError(f"{name} has a run already")
            self.state.replayed[name] = row

    def replayed(self, replay: str, causes: Sequence[str]) -> AbstractSet[tuple[str, str, int, int]]:
        return {name[1:] for name in self.state.replayed if name[0] == replay and name[1] in causes}

    def fired_by_events(self, events: Sequence[str]) -> Mapping[str, Sequence[Run]]:
        found: dict[str, list[Run]] = {}
        for run in _originals(self.state):
            for event in run.events:
                if event in events:
                    found.setdefault(event, []).append(run)
        return found

    def fired_as(self, trigger_events: Sequence[str]) -> Mapping[str, tuple[TriggerEvent, Run]]:
        found: dict[str, tuple[TriggerEvent, Run]] = {}
        for run in _originals(self.state):
            if run.trigger_event in trigger_events and run.trigger_event in self.state.trigger_events:
                fired = replace(self.state.trigger_events[run.trigger_event], events=())
                found.setdefault(run.trigger_event, (fired, run))
        return found

    def forgotten_runs(self, events: Sequence[str]) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for (source, target), kind in sorted(self.state.edges.items()):
            if source in events and kind == "caused":
                found.setdefault(source, []).append(target)
        return found

    def fired_items(self, trigger_events: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        return {
            row.trigger_event: (row.details.get("rule", 0), -1 if row.item is None else row.item)
            for row in self.state.decisions.values()
            if row.trigger_event is not None and row.trigger_event in trigger_events
        }

    def mark_letters(self, letters: Mapping[str, str]) -> int:
        known = [uid for uid in letters if uid in self.state.dead_letters]
        for uid in known:
            self.state.retried[uid] = (self._now, letters[uid])
        return len(known)


class ReplaysMemoryReader:
    """Queries about replays."""

    _state: State

    def replays(
        self, *, limit: int, cursor: str | None = None, state: str | None = None
    ) -> tuple[Sequence[Replay], str | None]:
        place = pages.decode(cursor, str)
        rows = [
            replay
            for uid, replay in sorted(self._state.replays.items(), reverse=True)
            if (state is None or replay.state == state) and (place is None or uid < place[0])
        ]
        return pages.page(rows, limit, [[replay.uid] for replay in rows])

    def replay(self, uid: str) -> Replay | None:
        return self._state.replays.get(uid)

    def due_replays(self, limit: int) -> Sequence[Replay]:
        rows = [replay for replay in self._state.replays.values() if not replay.state.final]
        return sorted(rows, key=lambda replay: (replay.next_at, replay.uid))[:limit]

    def replayed_runs(
        self, replay: str, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        place = pages.decode(cursor, str)
        mine = [row for row in self._state.replayed.values() if row.replay == replay]
        rows = [
            {**asdict(row), **self._shown(row.run)}
            for row in sorted(mine, key=lambda row: row.run, reverse=True)
            if place is None or row.run < place[0]
        ]
        return pages.page(rows, limit, [[row["run"]] for row in rows])

    def _shown(self, uid: str) -> Mapping[str, Any]:
        run = self._state.runs.get(uid)
        if run is None:
            return dict.fromkeys(("pipeline", "state", "partition", "generation"))
        return {
            "pipeline": run.pipeline,
            "state": str(run.state),
            "partition": run.partition,
            "generation": run.generation,
        }

    def replay_of(self, run: str) -> ReplayedRun | None:
        return next((row for row in self._state.replayed.values() if row.run == run), None)

    def received_between(
        self, sensors: Sequence[str], after: tuple[int, str], until: int, limit: int
    ) -> Sequence[tuple[int, str, int]]:
        rows = [
            (stored.event.received_at, uid, len(stored.event.data or b""))
            for uid, stored in self._state.events.items()
            if stored.event.sensor in sensors
            and (stored.event.received_at, uid) > after
            and stored.event.received_at < until
        ]
        return sorted(rows)[:limit]

    def fired_between(self, trigger: str, after: str, before: str, limit: int) -> tuple[Sequence[str], str]:
        originals = {run.trigger_event for run in _originals(self._state)}
        rows = sorted(uid for uid in self._state.trigger_events if after < uid < before)[:limit]
        wanted = [uid for uid in rows if self._state.trigger_events[uid].trigger == trigger and uid in originals]
        return wanted, rows[-1] if len(rows) == limit else ""


def prune_replays(state: State, before: int, limit: int) -> int:
    """Forget replays that ended before a moment, and letters that were tried again before it."""
    ended = [
        uid
        for uid, replay in sorted(state.replays.items())
        if replay.finished_at is not None and replay.finished_at < before
    ]
    letters = [uid for uid, (at, _) in sorted(state.retried.items()) if at < before]
    for uid in ended[:limit]:
        del state.replays[uid]
    for uid in letters[:limit]:
        state.dead_letters.pop(uid, None)
        del state.retried[uid]
    return len(ended[:limit]) + len(letters[:limit])


def replayed_edges(state: State) -> list[Edge]:
    """Return the arrows from runs to those that replay them."""
    return [
        Edge(("run", row.origin), ("run", row.run), "replayed")
        for row in state.replayed.values()
        if row.origin is not None
    ]


def _originals(state: State) -> list[Run]:
    """Return, by arrival, the first run of each trigger event that no replay made."""
    replays = {row.run for row in state.replayed.values()}
    return [
        run
        for run in state.runs.values()
        if run.trigger_event is not None and run.resumed_from is None and run.uid not in replays
    ]
