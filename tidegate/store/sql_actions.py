"""What is to be done to objects, in SQL for both databases: kept with events, due by their runs, forgotten with both.

`ready` says which rows are worth a look: 1 at once, or as soon as the event has a run. So what waits for runs that
never come costs nothing when due actions are asked for, however much of it there is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sensors.batch import ObjectAction
from sensors.event import EMPTY
from tidegate.store.rows import from_json, to_json
from tidegate.store.session import Session, bulk
from triggers.decision import Outcome

_LOOK = 500  # rows looked at in one go
_NAMES = "uid, event, key, etag, action, moment, created_at, target, tags"
_INSERT = bulk(
    "uid:t sensor:t event:t key:t etag:t action:t target:t tags:t moment:t created_at:i",
    "INSERT INTO object_actions"
    " (uid, sensor, event, key, etag, action, target, tags, moment, created_at, ready)"
    " SELECT uid, sensor, event, key, etag, action, target, tags, moment, created_at,"
    " CASE WHEN moment = 'now' OR EXISTS (SELECT 1 FROM run_events AS r WHERE r.event = v.event) THEN 1 ELSE 0 END"
    " FROM v WHERE uid IS NOT NULL ON CONFLICT (uid) DO NOTHING",
)
_OPEN = ", ".join(f"'{outcome}'" for outcome in Outcome if outcome.open)


class ActionsSql:
    """Methods of `Tx` about actions."""

    _s: Session

    def insert_actions(self, sensor: str, actions: Sequence[ObjectAction]) -> None:
        rows = [
            (
                action.uid,
                sensor,
                action.event,
                action.key,
                action.etag,
                action.what,
                action.to,
                to_json(action.tags),
                action.when,
                action.created_at,
            )
            for action in actions
        ]
        self._s.bulk(_INSERT, sorted(rows))

    def drop_actions(self, sensor: str, uids: Sequence[str]) -> None:
        self._s.execute("DELETE FROM object_actions WHERE sensor = ? AND uid = ANY(?)", sensor, sorted(set(uids)))


def have_runs(session: Session, events: Sequence[str]) -> None:
    """Note that these events have a run now."""
    if events:
        session.execute(
            "UPDATE object_actions SET ready = 1 WHERE uid IN"
            " (SELECT uid FROM object_actions WHERE event = ANY(?) AND ready = 0 ORDER BY uid FOR UPDATE)",
            sorted(set(events)),
        )


def forget_events(session: Session, events: Sequence[str]) -> None:
    """Forget the actions of events that are being forgotten."""
    session.execute("DELETE FROM object_actions WHERE event = ANY(?)", events)


def forget_runs(session: Session, runs: Sequence[str]) -> None:
    """Forget the actions of the events of runs that are being forgotten: how the runs went is not known any more."""
    session.execute("DELETE FROM object_actions WHERE event IN (SELECT event FROM run_events WHERE run = ANY(?))", runs)


def forget_old(session: Session, before: int, limit: int) -> int:
    """Forget old actions that wait for no event: their sensor is gone."""
    return session.execute(
        "DELETE FROM object_actions WHERE uid IN (SELECT uid FROM object_actions"
        " WHERE event = '' AND created_at < ? ORDER BY created_at LIMIT ?)",
        before,
        limit,
    )


class ActionReader:
    """Queries about actions."""

    _s: Session

    def due_actions(self, sensor: str, limit: int) -> Sequence[ObjectAction]:
        found: list[ObjectAction] = []
        after = ""
        while len(found) < limit:
            rows = self._s.select(
                f"SELECT {_NAMES} FROM object_actions WHERE sensor = ? AND ready = 1 AND uid > ? ORDER BY uid LIMIT ?",
                sensor,
                after,
                _LOOK,
            )
            actions = [_action_of(row) for row in rows]
            waiting = self._unfinished(sorted({a.event for a in actions if a.when == "succeeded"}))
            found += [a for a in actions if a.when != "succeeded" or a.event not in waiting]
            if len(rows) < _LOOK:
                break
            after = rows[-1][0]
        return found[:limit]

    def _unfinished(self, events: list[str]) -> set[str]:
        """Return the events that have a run, or a decision yet to be made, that keeps them from being done with."""
        if not events:
            return set()
        runs = self._s.select(
            "SELECT DISTINCT e.event FROM run_events AS e JOIN runs AS r ON r.uid = e.run"
            " LEFT JOIN run_keys AS k ON k.scope = r.key_scope AND k.pipeline = r.pipeline AND k.key = r.key"
            " LEFT JOIN runs AS l ON l.uid = k.last_run"
            " WHERE e.event = ANY(?) AND r.state <> 'succeeded' AND coalesce(l.state, k.last_state, '') <> 'succeeded'",
            events,
        )
        decisions = self._s.select(
            "SELECT DISTINCT j.event FROM decision_events AS j JOIN decisions AS d ON d.uid = j.decision"
            f" WHERE j.event = ANY(?) AND d.outcome IN ({_OPEN})",
            events,
        )
        return {row[0] for row in (*runs, *decisions)}

    def open_actions(self, sensor: str, keys: Sequence[str]) -> Mapping[str, Sequence[ObjectAction]]:
        found: dict[str, list[ObjectAction]] = {}
        for row in self._s.select(
            f"SELECT {_NAMES} FROM object_actions WHERE sensor = ? AND key = ANY(?) ORDER BY uid", sensor, list(keys)
        ):
            action = _action_of(row)
            found.setdefault(action.key, []).append(action)
        return found


def _action_of(row: Sequence[Any]) -> ObjectAction:
    uid, event, key, etag, what, when, created_at, to, tags = row
    return ObjectAction(uid, event, key, etag, what, when, created_at, to, EMPTY if tags is None else from_json(tags))
