"""From rows of alerts to what the API answers. Pure."""

from collections.abc import Sequence

from tidegate.alerts.message import link_of
from tidegate.alerts.routing import AlertRules
from tidegate.alerts.sender import Tried
from tidegate.alerts.targets import shown
from tidegate.api.models_alerts import AlertView, Delivery, TargetTrial, TrialAnswer, Undelivered
from tidegate.api.views import maybe, moment
from tidegate.store import alert_records
from tidegate.store.reader import Row


def alert_row(row: Row, rules: AlertRules) -> AlertView:
    """Show an alert. Targets are named as the configuration in force names them."""
    route = rules.routes.get(row["route"])
    names = [shown(url) for url in route.to] if route is not None else []
    return AlertView(
        uid=row["uid"],
        route=row["route"],
        kind=row["kind"],
        severity=row["severity"],
        subject=row["subject"],
        at=moment(row["at"]),
        text=row["text"],
        count=row["count"],
        ends=row["ends"],
        labels=row["labels"],
        link=link_of(rules.base_url, row["labels"]),
        state=row["state"],
        reason=row["reason"],
        message=row["message"],
        deliveries=[
            Delivery(
                target=names[one["target"]] if one["target"] < len(names) else "gone",
                state=one["state"],
                attempts=one["attempts"],
                error=one["error"],
                next_try=maybe(one["next_at"]),
                done_at=maybe(one["done_at"]),
            )
            for one in row["deliveries"]
        ],
    )


def trial_answer(route: str, tried: Sequence[Tried]) -> TrialAnswer:
    """Show what a test message met."""
    targets = [TargetTrial(target=one.target, ok=one.ok, error=one.error) for one in tried]
    return TrialAnswer(route=route, ok=all(one.ok for one in targets), targets=targets)


def undelivered_row(found: alert_records.Undelivered) -> Undelivered:
    """Show what a route could not deliver."""
    return Undelivered(route=found.route, messages=found.messages, since=moment(found.since), error=found.error)
