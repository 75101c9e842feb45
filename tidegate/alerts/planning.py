"""What is told next: new alerts go into their groups, and what is due becomes messages, in one transaction per look.

In flow the outbox; out flow groups, messages to each target of a route, and alerts that are `gathered`, `told` or
`suppressed` with the reason. Who plans holds the route, so several replicas may look at once, and a crash at any point
leaves either all of a look or nothing. No more messages are made than the route's limit and its targets take: what is
due then waits, and is told together in a digest.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from config.model import AlertRoute
from sensors.uid import ALERT_MESSAGE, make_uid
from tidegate.alerts.grouping import (
    AGAIN,
    Fact,
    Group,
    Timing,
    Told,
    close,
    ended,
    forgettable,
    happened,
    next_at,
    tell,
    tell_at,
    tellable,
)
from tidegate.alerts.message import Part, Place, body_of, digest_of
from tidegate.rules import RulesInForce
from tidegate.store.alert_records import GATHERED, SUPPRESSED, TOLD, AlertGroup, AlertMessage, AlertRow, Undelivered
from tidegate.store.tx import Tx

BATCH = 500  # new alerts that one look takes up
OUTSTANDING = 5  # messages on their way to a target that has not taken them yet
_LATER = 30_000_000  # µs until a route whose targets take nothing is looked at again
GONE = "the route is not configured any more"


@dataclass(slots=True)
class Planned:
    """What a look did: messages made, alerts suppressed by (route, kind), and when to look again.

    `wait` is in seconds (0: at once; None: when something happens), by the database's clock.
    """

    messages: int = 0
    suppressed: dict[tuple[str, str], int] = field(default_factory=dict)
    wait: float | None = None
    undelivered: Sequence[Undelivered] = ()


class PlanAlerts:
    """The write that looks at all routes that have something to do."""

    name = "plan_alerts"

    def __init__(self, rules: RulesInForce) -> None:
        self._rules = rules

    def __call__(self, tx: Tx, items: Sequence[None]) -> Sequence[Planned]:
        """Look once; all who asked get the same answer."""
        rules = self._rules.current.alerts
        planned = Planned()
        due = tx.alert_routes_due()
        states = tx.lock_alert_routes(due) if due else {}
        for name in sorted(states):
            route = rules.routes.get(name)
            if route is None:
                gone = tx.suppress_route(name, GONE)
                _add(planned.suppressed, (name, ""), gone)
                continue
            _Look(tx, route, Place(rules.service, name, rules.base_url), planned).plan(states[name])
        following = tx.alerts_next()
        if following is not None:
            planned.wait = max(0, following - tx.now()) / 1e6
        planned.undelivered = tx.undelivered()
        return [planned] * len(items)


class _Look:
    """One look at one locked route."""

    def __init__(self, tx: Tx, route: AlertRoute, place: Place, planned: Planned) -> None:
        self._tx = tx
        self._route = route
        self._place = place
        self._planned = planned
        self._now = tx.now()
        self._timing = timing_of(route)
        self._entropy = int.from_bytes(os.urandom(10), "big") >> 1
        self._groups: dict[str, Group] = {}
        self._suppressed: dict[str, list[str]] = {}  # reason -> uids

    def _uid(self) -> str:
        """Name a message; names of one look rise, so that they are sent in their order."""
        self._entropy += 1
        return make_uid(ALERT_MESSAGE, self._now, self._entropy.to_bytes(10, "big"))

    def plan(self, state: str) -> None:
        """Take up what is new, tell what is due."""
        tx, route, now = self._tx, self._route, self._now
        fresh = sorted(tx.new_alerts(route.name, BATCH), key=lambda row: (row.at, row.uid))
        stored = tx.alert_groups(route.name, sorted({row.group for row in fresh}))
        self._groups = {row.key: Group.from_json(row.state) for row in stored}
        self._take_up(fresh)
        self._close()
        recent = [moment for moment in _recent(state) if moment > now - int(route.limit_per * 1e6)]
        due = sorted(
            (key for key, group in self._groups.items() if tellable(group, now, self._timing)),
            key=lambda key: (tell_at(self._groups[key], self._timing) or 0, key),
        )
        room = self._room(recent) if due else 0
        made = self._tell(due, room)
        held = due if room < 1 else ()
        self._write(held, recent, [*recent, *[now] * made][-route.limit :])

    def _take_up(self, fresh: Sequence[AlertRow]) -> None:
        """Put new alerts into their groups."""
        gathered = []
        for row in fresh:
            group = self._groups.get(row.group)
            if row.ends:
                after, reason = ended(group, row.uid, self._now, self._timing)
            else:
                fact = Fact(row.uid, row.kind, row.subject, row.at, row.count)
                after, reason = happened(group, fact, self._now, self._timing)
                if group is not None and group.ended is not None and after.ended is None:
                    self._suppress(group.ended, row.kind, AGAIN)
            if after is not None:
                self._groups[row.group] = after
            if reason:
                self._suppress(row.uid, row.kind, reason)
            else:
                gathered.append(row.uid)
        self._tx.set_alerts([uid for uid in gathered if uid not in self._taken_back], GATHERED)

    @property
    def _taken_back(self) -> set[str]:
        return {uid for uids in self._suppressed.values() for uid in uids}

    def _close(self) -> None:
        """Close groups whose end nobody needs to be told of."""
        for key, group in self._groups.items():
            after, reason = close(group, self._now, self._timing)
            self._groups[key] = after
            if reason and group.ended is not None:
                self._suppress(group.ended, group.kind, reason)

    def _room(self, recent: Sequence[int]) -> int:
        """Return how many messages may be made now."""
        waiting = self._tx.messages_waiting(self._route.name)
        backlog = min(waiting.get(target, 0) for target in range(len(self._route.to)))
        return min(self._route.limit - len(recent), OUTSTANDING - backlog)

    def _tell(self, due: Sequence[str], room: int) -> int:
        """Make messages of groups that are due: one each as far as there is room, then one of all the others."""
        if room < 1:
            return 0
        single = due if len(due) <= room else due[: room - 1]
        for key in single:
            uid = self._uid()
            (part,) = self._parts([key], uid)
            self._send(uid, key, orjson.dumps(body_of(uid, self._place, part, self._now)).decode())
        rest = due[len(single) :]
        if rest:
            uid = self._uid()
            parts = self._parts(rest, uid)
            self._send(uid, "", orjson.dumps(digest_of(uid, self._place, parts, self._now)).decode())
        return len(single) + bool(rest)

    def _parts(self, keys: Sequence[str], uid: str) -> Sequence[Part]:
        """Tell groups in the message `uid`, and return what it says of each."""
        tolds: dict[str, Told] = {}
        for key in keys:
            self._groups[key], tolds[key] = tell(self._groups[key], self._now, self._timing)
            self._tx.tell_gathered(self._route.name, key, uid)
        ends = [told.ended for told in tolds.values() if told.ended is not None]
        self._tx.set_alerts(ends, TOLD, uid)
        rows = self._tx.alerts_by_uid([*ends, *(one for told in tolds.values() for one in told.first)])
        return [
            Part(told, [rows[one] for one in told.first if one in rows], rows.get(told.ended or ""))
            for told in tolds.values()
        ]

    def _send(self, uid: str, group: str, body: str) -> None:
        self._tx.insert_messages(
            [
                AlertMessage(
                    message=uid,
                    target=target,
                    route=self._route.name,
                    group=group,
                    made_at=self._now,
                    body=body,
                    next_at=self._now,
                )
                for target in range(len(self._route.to))
            ]
        )
        self._planned.messages += 1

    def _suppress(self, uid: str, kind: str, reason: str) -> None:
        self._suppressed.setdefault(reason, []).append(uid)
        _add(self._planned.suppressed, (self._route.name, kind), 1)

    def _write(self, held: Sequence[str], recent: Sequence[int], sent: Sequence[int]) -> None:
        tx, route = self._tx, self._route
        for reason, uids in self._suppressed.items():
            tx.set_alerts(uids, SUPPRESSED, reason=reason)
        forgotten = [key for key, group in self._groups.items() if forgettable(group, self._now, self._timing)]
        tx.drop_alert_groups(route.name, forgotten)
        free = self._free_at(recent)
        rows = []
        for key, group in self._groups.items():
            if key not in forgotten:
                due = free if key in held else next_at(group, self._timing)
                open_ = group.open and group.closing is None  # what ends is not ended once more
                rows.append(AlertGroup(route.name, key, group.kind, open_, group.last, due, group.to_json()))
        state = orjson.dumps({"sent": list(sent)}).decode()
        tx.put_alert_groups([*rows, AlertGroup(route.name, "", "", False, self._now, None, state)])

    def _free_at(self, recent: Sequence[int]) -> int:
        """Return when there may be room again."""
        if len(recent) >= self._route.limit:
            return recent[0] + int(self._route.limit_per * 1e6) + 1
        return self._now + _LATER


def timing_of(route: AlertRoute) -> Timing:
    """Return a route's patience as groups need it."""
    return Timing(int(route.group_wait * 1e6), int(route.repeat_every * 1e6), "resolved" in route.events)


def _recent(state: str) -> Sequence[int]:
    return orjson.loads(state)["sent"] if state else ()


def _add(counts: dict[tuple[str, str], int], key: tuple[str, str], n: int) -> None:
    if n:
        counts[key] = counts.get(key, 0) + n
