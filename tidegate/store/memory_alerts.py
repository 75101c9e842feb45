"""Alerts in the in-memory store: the rules of `sql_alerts`, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sensors.event import storable_text
from sensors.uid import ALERT, ALERT_MESSAGE, make_uid
from tidegate.store import pages
from tidegate.store.alert_records import PENDING, AlertGroup, AlertMessage, AlertRow, MessageEnd, Undelivered
from tidegate.store.memory_state import State
from tidegate.store.reader import Row
from tidegate.store.sql_alerts import settled, shown


class MemoryAlerts:
    """Methods of `Tx` about alerts."""

    state: State
    _now: int

    def insert_alerts(self, rows: Sequence[AlertRow]) -> int:
        known = {(row.route, row.id) for row in self.state.alerts.values()}
        fresh = 0
        for row in rows:
            if not storable_text(row.text) or not storable_text(row.id) or not storable_text(row.subject):
                raise ValueError("Text with a NUL character or a lone surrogate cannot be stored.")
            if (row.route, row.id) not in known:
                known.add((row.route, row.id))
                self.state.alerts[row.uid] = replace(row, labels=dict(row.labels))
                fresh += 1
        return fresh

    def failing(self, keys: Sequence[str]) -> Mapping[tuple[str, str], int]:
        found = {
            name: group.last_at for name, group in self.state.alert_groups.items() if group.open and name[1] in keys
        }
        for row in self.state.alerts.values():
            if row.state == "new" and not row.ends and row.group in keys:
                found[row.route, row.group] = max(row.at, found.get((row.route, row.group), row.at))
        return found

    def alert_routes_due(self) -> Sequence[str]:
        routes = {row.route for row in self.state.alerts.values() if row.state == "new"}
        return sorted(routes | {g.route for g in self.state.alert_groups.values() if _due(g, self._now)})

    def lock_alert_routes(self, routes: Sequence[str]) -> Mapping[str, str]:
        groups = self.state.alert_groups
        return {r: groups.setdefault((r, ""), AlertGroup(r, "", "", False, 0, None, "")).state for r in routes}

    def new_alerts(self, route: str, limit: int) -> Sequence[AlertRow]:
        rows = [row for row in self.state.alerts.values() if row.route == route and row.state == "new"]
        return sorted(rows, key=lambda row: row.uid)[:limit]

    def alerts_by_uid(self, uids: Sequence[str]) -> Mapping[str, AlertRow]:
        return {uid: self.state.alerts[uid] for uid in uids if uid in self.state.alerts}

    def alert_groups(self, route: str, keys: Sequence[str]) -> Sequence[AlertGroup]:
        mine = [group for (owner, key), group in sorted(self.state.alert_groups.items()) if owner == route and key]
        return [group for group in mine if group.key in keys or _due(group, self._now)]

    def put_alert_groups(self, groups: Sequence[AlertGroup]) -> None:
        for group in groups:
            self.state.alert_groups[group.route, group.key] = group

    def drop_alert_groups(self, route: str, keys: Sequence[str]) -> None:
        for key in keys:
            self.state.alert_groups.pop((route, key), None)

    def set_alerts(self, uids: Sequence[str], state: str, message: str | None = None, reason: str = "") -> None:
        for uid in uids:
            self.state.alerts[uid] = replace(self.state.alerts[uid], state=state, message=message, reason=reason)

    def tell_gathered(self, route: str, group: str, message: str) -> int:
        mine = [
            row
            for row in self.state.alerts.values()
            if (row.route, row.group, row.state, row.ends) == (route, group, "gathered", False)
        ]
        self.set_alerts([row.uid for row in mine], "told", message)
        return len(mine)

    def suppress_route(self, route: str, reason: str) -> int:
        for name in [name for name in self.state.alert_groups if name[0] == route]:
            del self.state.alert_groups[name]
        for place, message in self.state.alert_messages.items():
            if message.route == route and message.state == "pending":
                ended = replace(message, state="suppressed", error=reason, done_at=self._now)
                self.state.alert_messages[place] = ended
        waiting = [row for row in self.state.alerts.values() if row.route == route and row.state in PENDING]
        for row in waiting:
            self.state.alerts[row.uid] = replace(row, state="suppressed", reason=reason)
        return len(waiting)

    def insert_messages(self, messages: Sequence[AlertMessage]) -> None:
        for message in messages:
            place = (message.message, message.target)
            if place in self.state.alert_messages:
                raise ValueError(f"{place} is stored already")
            self.state.alert_messages[place] = message

    def messages_waiting(self, route: str) -> Mapping[int, int]:
        found: dict[int, int] = {}
        for message in self.state.alert_messages.values():
            if message.route == route and message.state == "pending":
                found[message.target] = found.get(message.target, 0) + 1
        return found

    def claim_messages(self, limit: int, lease: int) -> Sequence[AlertMessage]:
        due = [message for message in self._in_order() if message.next_at <= self._now]
        due.sort(key=lambda message: (message.next_at, message.message, message.target))
        claimed = [replace(one, attempts=one.attempts + 1, next_at=self._now + lease) for one in due[:limit]]
        self.state.alert_messages.update({(one.message, one.target): one for one in claimed})
        return claimed

    def end_attempt(self, end: MessageEnd) -> bool:
        old = self.state.alert_messages.get((end.message, end.target))
        if old is None or old.attempts != end.attempts or old.state != "pending":
            return False
        done = None if end.state == "pending" else self._now
        new = replace(old, state=end.state, next_at=end.next_at, error=end.error, done_at=done)
        self.state.alert_messages[end.message, end.target] = new
        places = sorted(place for place in self.state.alert_messages if place[0] == end.message)
        ends = [(self.state.alert_messages[place].state, self.state.alert_messages[place].error) for place in places]
        if all(state != "pending" for state, _ in ends):
            state, reason = settled(ends)
            for row in list(self.state.alerts.values()):
                if row.message == end.message and row.state == "told":
                    self.state.alerts[row.uid] = replace(row, state=state, reason=reason)
        return True

    def alerts_next(self) -> int | None:
        if any(row.state == "new" for row in self.state.alerts.values()):
            return 0
        moments = [group.next_at for group in self.state.alert_groups.values() if group.next_at is not None]
        return min([*moments, *(message.next_at for message in self._in_order())], default=None)

    def undelivered(self) -> Sequence[Undelivered]:
        return undelivered(self.state)

    def _in_order(self) -> list[AlertMessage]:
        """Return the messages that no earlier one of their group, on their way to the same target, keeps back."""
        first: dict[tuple[str, int, str], AlertMessage] = {}
        for message in sorted(self.state.alert_messages.values(), key=lambda one: one.message):
            if message.state == "pending":
                first.setdefault((message.route, message.target, message.group), message)
        return list(first.values())


def prune_alerts(state: State, before: int, limit: int) -> int:
    """Forget alerts and messages that are settled, and groups of which nothing waits."""
    bound, final = make_uid(ALERT, max(0, before), bytes(10)), ("sent", "failed", "suppressed")
    old = sorted(uid for uid, row in state.alerts.items() if uid < bound and row.state in final)[:limit]
    for uid in old:
        del state.alerts[uid]
    bound = make_uid(ALERT_MESSAGE, max(0, before), bytes(10))
    done = [place for place, row in state.alert_messages.items() if place[0] < bound and row.state != "pending"][:limit]
    for place in done:
        del state.alert_messages[place]
    waiting = {(row.route, row.group) for row in state.alerts.values() if row.state in ("new", "gathered")}
    for name, group in list(state.alert_groups.items()):
        if name[1] and group.last_at < before and name not in waiting:
            del state.alert_groups[name]
    return len(old) + len(done)


def read_alerts(
    state: State, limit: int, cursor: str | None, route: str | None, kind: str | None, wanted: str | None
) -> tuple[Sequence[Row], str | None]:
    """List alerts, newest first."""
    place = pages.decode(cursor, str)
    states = None if wanted is None else PENDING if wanted == "pending" else (wanted,)
    rows = [
        row
        for uid, row in sorted(state.alerts.items(), reverse=True)
        if route in (None, row.route)
        and kind in (None, row.kind)
        and (states is None or row.state in states)
        and (place is None or uid < place[0])
    ]
    found, after = pages.page(rows, limit, [[row.uid] for row in rows])
    messages = sorted(state.alert_messages.items())
    return [shown(row, [one for (name, _), one in messages if name == row.message]) for row in found], after


def undelivered(state: State) -> Sequence[Undelivered]:
    """Return what could not be delivered so far."""
    found: dict[str, list[AlertMessage]] = {}
    for message in state.alert_messages.values():
        if message.state == "pending" and message.error:
            found.setdefault(message.route, []).append(message)
    return [
        Undelivered(route, len(all_), min(one.made_at for one in all_), max(one.error for one in all_))
        for route, all_ in sorted(found.items())
    ]


def _due(group: AlertGroup, now: int) -> bool:
    return group.next_at is not None and group.next_at <= now
