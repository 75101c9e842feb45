"""Alerts in SQL for both databases: the outbox, its groups, and messages on their way.

What is looked for all the time (new alerts, groups and messages that are due) stands in partial indexes, so that a
history of a hundred thousand alerts costs nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from sensors.uid import ALERT, ALERT_MESSAGE, make_uid
from tidegate.store import pages
from tidegate.store.alert_records import PENDING, AlertGroup, AlertMessage, AlertRow, MessageEnd, Undelivered
from tidegate.store.reader import Row
from tidegate.store.rows import names
from tidegate.store.session import Session, insert

_ALERT = (
    "uid:t route:t id:t kind:t severity:t subject:t grp:t at:i text:t count:i ends:i labels:t state:t message:t"
    " reason:t"
)
_GROUP = "route:t key:t kind:t open:i last_at:i next_at:i state:t"
_MESSAGE = "message:t target:i route:t grp:t made_at:i body:t state:t attempts:i next_at:i error:t done_at:i"
_ALERTS = insert("alerts", _ALERT, "ON CONFLICT (route, id) DO NOTHING")
_GROUPS = insert(
    "alert_groups",
    _GROUP,
    "ON CONFLICT (route, key) DO UPDATE SET kind = excluded.kind, open = excluded.open, last_at = excluded.last_at,"
    " next_at = excluded.next_at, state = excluded.state",
)
_ROUTES = insert("alert_groups", _GROUP, "ON CONFLICT (route, key) DO NOTHING")
_MESSAGES = insert("alert_messages", _MESSAGE)
_DUE = (
    "m.state = 'pending' AND NOT EXISTS (SELECT 1 FROM alert_messages AS e WHERE e.state = 'pending'"
    " AND e.route = m.route AND e.target = m.target AND e.grp = m.grp AND e.message < m.message)"
)
_OPEN = "SELECT route, key, last_at FROM alert_groups WHERE open = 1 AND key = ANY(?)"
_UNSEEN = "SELECT route, grp, max(at) FROM alerts WHERE state = 'new' AND ends = 0 AND grp = ANY(?) GROUP BY route, grp"
_WAITING = "state IN ('new', 'gathered', 'told')"


class AlertsSql:
    """Methods of `Tx` about alerts."""

    _s: Session

    def insert_alerts(self, rows: Sequence[AlertRow]) -> int:
        return self._s.bulk(_ALERTS, [_alert_row(row) for row in sorted(rows, key=lambda row: (row.route, row.id))])

    def failing(self, keys: Sequence[str]) -> Mapping[tuple[str, str], int]:
        wanted = sorted(set(keys))
        found: dict[tuple[str, str], int] = {}
        for sql in (_OPEN, _UNSEEN):
            for route, key, at in self._s.select(sql, wanted):
                found[route, key] = max(at, found.get((route, key), at))
        return found

    def alert_routes_due(self) -> Sequence[str]:
        rows = self._s.select(
            "SELECT DISTINCT route FROM alerts WHERE state = 'new'"
            " UNION SELECT DISTINCT route FROM alert_groups WHERE next_at <= ?",
            self._s.now(),
        )
        return sorted(row[0] for row in rows)

    def lock_alert_routes(self, routes: Sequence[str]) -> Mapping[str, str]:
        wanted = sorted(set(routes))
        self._s.bulk(_ROUTES, [(route, "", "", 0, 0, None, "") for route in wanted])
        rows = self._s.select(
            "SELECT route, state FROM alert_groups WHERE key = '' AND route = ANY(?) ORDER BY route FOR UPDATE", wanted
        )
        return dict(rows)  # type: ignore[arg-type]

    def new_alerts(self, route: str, limit: int) -> Sequence[AlertRow]:
        rows = self._s.select(
            f"SELECT {names(_ALERT)} FROM alerts WHERE route = ? AND state = 'new' ORDER BY uid LIMIT ?", route, limit
        )
        return [_alert_of(row) for row in rows]

    def alerts_by_uid(self, uids: Sequence[str]) -> Mapping[str, AlertRow]:
        rows = self._s.select(f"SELECT {names(_ALERT)} FROM alerts WHERE uid = ANY(?)", sorted(set(uids)))
        return {row[0]: _alert_of(row) for row in rows}

    def alert_groups(self, route: str, keys: Sequence[str]) -> Sequence[AlertGroup]:
        rows = self._s.select(
            f"SELECT {names(_GROUP)} FROM alert_groups WHERE route = ? AND key <> ''"
            " AND (next_at <= ? OR key = ANY(?)) ORDER BY key",
            route,
            self._s.now(),
            sorted(set(keys)),
        )
        return [AlertGroup(route, key, kind, bool(open_), *rest) for _, key, kind, open_, *rest in rows]

    def put_alert_groups(self, groups: Sequence[AlertGroup]) -> None:
        ordered = sorted(groups, key=lambda group: (group.route, group.key))
        self._s.bulk(_GROUPS, [(g.route, g.key, g.kind, int(g.open), g.last_at, g.next_at, g.state) for g in ordered])

    def drop_alert_groups(self, route: str, keys: Sequence[str]) -> None:
        if keys:
            self._s.execute("DELETE FROM alert_groups WHERE route = ? AND key = ANY(?)", route, sorted(set(keys)))

    def set_alerts(self, uids: Sequence[str], state: str, message: str | None = None, reason: str = "") -> None:
        if uids:
            self._s.execute(
                "UPDATE alerts SET state = ?, message = ?, reason = ? WHERE uid = ANY(?)",
                state,
                message,
                reason,
                sorted(set(uids)),
            )

    def tell_gathered(self, route: str, group: str, message: str) -> int:
        return self._s.execute(
            "UPDATE alerts SET state = 'told', message = ? WHERE route = ? AND grp = ? AND state = 'gathered'"
            " AND ends = 0",
            message,
            route,
            group,
        )

    def suppress_route(self, route: str, reason: str) -> int:
        self._s.execute("DELETE FROM alert_groups WHERE route = ?", route)
        self._s.execute(
            "UPDATE alert_messages SET state = 'suppressed', error = ?, done_at = ?"
            " WHERE route = ? AND state = 'pending'",
            reason,
            self._s.now(),
            route,
        )
        return self._s.execute(
            f"UPDATE alerts SET state = 'suppressed', reason = ? WHERE route = ? AND {_WAITING}", reason, route
        )

    def insert_messages(self, messages: Sequence[AlertMessage]) -> None:
        rows = [
            (m.message, m.target, m.route, m.group, m.made_at, m.body, m.state, m.attempts, m.next_at, m.error, None)
            for m in messages
        ]
        self._s.bulk(_MESSAGES, rows)

    def messages_waiting(self, route: str) -> Mapping[int, int]:
        rows = self._s.select(
            "SELECT target, count(*) FROM alert_messages WHERE route = ? AND state = 'pending' GROUP BY target", route
        )
        return dict(rows)  # type: ignore[arg-type]

    def claim_messages(self, limit: int, lease: int) -> Sequence[AlertMessage]:
        now = self._s.now()
        rows = self._s.select(
            f"SELECT {names(_MESSAGE, 'm.')} FROM alert_messages AS m WHERE {_DUE} AND m.next_at <= ?"
            " ORDER BY m.next_at, m.message, m.target LIMIT ? FOR UPDATE OF m SKIP LOCKED",
            now,
            limit,
        )
        claimed = []
        for row in rows:
            message = _message_of(row, attempts=row[7] + 1, next_at=now + lease)
            self._s.execute(
                "UPDATE alert_messages SET attempts = ?, next_at = ? WHERE message = ? AND target = ?",
                message.attempts,
                message.next_at,
                message.message,
                message.target,
            )
            claimed.append(message)
        return claimed

    def end_attempt(self, end: MessageEnd) -> bool:
        rows = self._s.select(
            "SELECT target, state, attempts, error FROM alert_messages WHERE message = ? ORDER BY target FOR UPDATE",
            end.message,
        )
        states = {row[0]: row[1] for row in rows}
        attempts = {row[0]: row[2] for row in rows}
        if attempts.get(end.target) != end.attempts or states[end.target] != "pending":
            return False
        self._s.execute(
            "UPDATE alert_messages SET state = ?, next_at = ?, error = ?, done_at = ? WHERE message = ? AND target = ?",
            end.state,
            end.next_at,
            end.error,
            None if end.state == "pending" else self._s.now(),
            end.message,
            end.target,
        )
        states[end.target] = end.state
        if "pending" not in states.values():
            errors = {row[0]: row[3] for row in rows} | {end.target: end.error}
            state, reason = settled([(states[target], errors[target]) for target in sorted(states)])
            self._s.execute(
                "UPDATE alerts SET state = ?, reason = ? WHERE message = ? AND state = 'told'",
                state,
                reason,
                end.message,
            )
        return True

    def alerts_next(self) -> int | None:
        if self._s.select("SELECT 1 FROM alerts WHERE state = 'new' LIMIT 1"):
            return 0
        moments = [
            row[0]
            for sql in (
                "SELECT min(next_at) FROM alert_groups WHERE next_at IS NOT NULL",
                f"SELECT min(m.next_at) FROM alert_messages AS m WHERE {_DUE}",
            )
            for row in self._s.select(sql)
        ]
        return min((moment for moment in moments if moment is not None), default=None)

    def undelivered(self) -> Sequence[Undelivered]:
        return read_undelivered(self._s)


class AlertsPrune:
    """Forgets alerts."""

    _s: Session

    def _prune_alerts(self, before: int, limit: int) -> int:
        gone = self._s.execute(
            "DELETE FROM alerts WHERE uid IN (SELECT uid FROM alerts WHERE uid < ?"
            " AND state IN ('sent', 'failed', 'suppressed') ORDER BY uid LIMIT ?)",
            make_uid(ALERT, max(0, before), bytes(10)),
            limit,
        )
        gone += self._s.execute(
            "DELETE FROM alert_messages WHERE state <> 'pending' AND message IN (SELECT message FROM alert_messages"
            " WHERE message < ? AND state <> 'pending' ORDER BY message LIMIT ?)",
            make_uid(ALERT_MESSAGE, max(0, before), bytes(10)),
            limit,
        )
        self._s.execute(
            "DELETE FROM alert_groups WHERE key <> '' AND last_at < ? AND NOT EXISTS (SELECT 1 FROM alerts AS a"
            " WHERE a.route = alert_groups.route AND a.grp = alert_groups.key AND a.state IN ('new', 'gathered'))",
            before,
        )
        return gone


class AlertReader:
    """Queries about alerts."""

    _s: Session

    def alerts(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        route: str | None = None,
        kind: str | None = None,
        state: str | None = None,
    ) -> tuple[Sequence[Row], str | None]:
        place = pages.decode(cursor, str)
        conditions, values = [], []
        for condition, value in (
            ("route = ?", route),
            ("kind = ?", kind),
            ("uid < ?", None if place is None else place[0]),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        if state is not None:
            conditions.append("state = ANY(?)")
            values.append(list(PENDING) if state == "pending" else [state])
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._s.select(
            f"SELECT {names(_ALERT)} FROM alerts{where} ORDER BY uid DESC LIMIT ?", *values, limit + 1
        )
        rows, after = pages.page(rows, limit, [row[:1] for row in rows])
        found = [_alert_of(row) for row in rows]
        messages: dict[str, list[AlertMessage]] = {row.message: [] for row in found if row.message is not None}
        for row in self._s.select(
            f"SELECT {names(_MESSAGE)} FROM alert_messages WHERE message = ANY(?) ORDER BY message, target",
            list(messages),
        ):
            messages[row[0]].append(_message_of(row))
        return [shown(alert, messages.get(alert.message or "", ())) for alert in found], after

    def undelivered(self) -> Sequence[Undelivered]:
        return read_undelivered(self._s)


def read_undelivered(session: Session) -> Sequence[Undelivered]:
    """Read what could not be delivered so far."""
    rows = session.select(
        "SELECT route, count(*), min(made_at), max(error) FROM alert_messages"
        " WHERE state = 'pending' AND error <> '' GROUP BY route ORDER BY route"
    )
    return [Undelivered(*row) for row in rows]


def settled(ends: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return what became of an alert whose message ended so (state, error) at its targets, and why."""
    for state in ("failed", "sent"):
        for found, error in ends:
            if found == state:
                return state, error
    return "suppressed", ends[0][1]


def shown(alert: AlertRow, messages: Sequence[AlertMessage]) -> Row:
    """Return an alert as readers see it."""
    return {
        "uid": alert.uid,
        "route": alert.route,
        "kind": alert.kind,
        "severity": alert.severity,
        "subject": alert.subject,
        "at": alert.at,
        "text": alert.text,
        "count": alert.count,
        "ends": alert.ends,
        "labels": dict(alert.labels),
        "state": "pending" if alert.state in PENDING else alert.state,
        "reason": alert.reason,
        "message": alert.message,
        "deliveries": [
            {
                "target": message.target,
                "state": message.state,
                "attempts": message.attempts,
                "error": message.error,
                "next_at": message.next_at if message.state == "pending" else None,
                "done_at": message.done_at,
            }
            for message in messages
        ],
    }


def _alert_row(row: AlertRow) -> Sequence[Any]:
    labels = orjson.dumps(dict(row.labels)).decode()
    return (
        *(row.uid, row.route, row.id, row.kind, row.severity, row.subject, row.group, row.at, row.text, row.count),
        *(int(row.ends), labels, row.state, row.message, row.reason),
    )


def _alert_of(row: Sequence[Any]) -> AlertRow:
    uid, route, id_, kind, severity, subject, group, at, text, count, ends, labels, state, message, reason = row
    return AlertRow(
        uid=uid,
        route=route,
        id=id_,
        kind=kind,
        severity=severity,
        subject=subject,
        group=group,
        at=at,
        text=text,
        count=count,
        ends=bool(ends),
        labels=orjson.loads(labels),
        state=state,
        message=message,
        reason=reason,
    )


def _message_of(row: Sequence[Any], *, attempts: int | None = None, next_at: int | None = None) -> AlertMessage:
    message, target, route, group, made_at, body, state, tried, due, error, done_at = row
    return AlertMessage(
        message=message,
        target=target,
        route=route,
        group=group,
        made_at=made_at,
        body=body,
        state=state,
        attempts=tried if attempts is None else attempts,
        next_at=due if next_at is None else next_at,
        error=error,
        done_at=done_at,
    )
