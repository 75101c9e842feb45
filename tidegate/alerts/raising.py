"""Writing alerts down, in the very transaction that makes durable what they tell of.

In flow alerts, out flow rows of the outbox, one per route that takes them. An alert that ends something is kept only
where that something has not ended yet, so that the daily success of a thousand pipelines leaves nothing behind.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

from sensors.uid import ALERT, make_uid
from tidegate.alerts.alert import MAX_NAME, Alert, readable, stored_name
from tidegate.alerts.routing import AlertRules
from tidegate.rules import RulesInForce
from tidegate.store.alert_records import AlertRow
from tidegate.store.tx import Tx


def raise_alerts(tx: Tx, rules: AlertRules, alerts: Iterable[Alert], *, not_on: str = "") -> int:
    """Keep alerts for the routes that take them (never for `not_on`); return how many rows are new."""
    if not rules.active:
        return 0
    taken = [(route.name, alert) for alert in alerts for route in rules.taking(alert) if route.name != not_on]
    ending = sorted({alert.group for _, alert in taken if alert.ends})
    failing = dict(tx.failing(ending)) if ending else {}
    failing.update({(route, alert.group): alert.at for route, alert in taken if not alert.ends})
    kept = [
        (route, alert) for route, alert in taken if not alert.ends or _ends(alert, failing.get((route, alert.group)))
    ]
    if not kept:
        return 0
    entropy = int.from_bytes(os.urandom(10), "big") >> 1  # uids rise, so that alerts of a moment keep their order
    return tx.insert_alerts(
        [
            _row(route, alert, make_uid(ALERT, tx.now(), (entropy + n).to_bytes(10, "big")))
            for n, (route, alert) in enumerate(kept)
        ]
    )


def _ends(alert: Alert, last: int | None) -> bool:
    """Say whether there is something to end, all of which lies before what the alert tells of began."""
    return last is not None and (alert.began is None or alert.began >= last)


def _row(route: str, alert: Alert, uid: str) -> AlertRow:
    labels: dict[str, Any] = {
        name: readable(value, MAX_NAME)
        for name in ("pipeline", "sensor", "trigger", "dataset")
        if (value := getattr(alert, name))
    }
    return AlertRow(
        uid=uid,
        route=route,
        id=stored_name(f"{alert.kind}/{alert.id}"),
        kind=alert.kind,
        severity=alert.severity,
        subject=readable(alert.subject, MAX_NAME),
        group=alert.group,
        at=alert.at,
        text=readable(alert.text),
        count=alert.count,
        ends=alert.ends,
        labels={**labels, "tags": sorted(alert.tags), "refs": dict(alert.refs)},
    )


class RaiseAlerts:
    """The write that keeps alerts about what is in no transaction of its own (a refused configuration)."""

    name = "raise_alerts"

    def __init__(self, rules: RulesInForce) -> None:
        self._rules = rules

    def __call__(self, tx: Tx, items: Sequence[tuple[Alert, ...]]) -> Sequence[int]:
        """Keep all; answer how many rows each left."""
        rules = self._rules.current.alerts
        return [raise_alerts(tx, rules, alerts) for alerts in items]
