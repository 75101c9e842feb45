"""The part of the store's transaction that is about alerts: an outbox, the groups in it, and messages on their way.

A route's groups are changed only by who holds the route (`lock_alert_routes`), so that several replicas may plan at
once. Messages are claimed by moving the moment at which they are due.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tidegate.store.alert_records import AlertGroup, AlertMessage, AlertRow, MessageEnd, Undelivered


class AlertTx(Protocol):
    """What `Tx` can do with alerts."""

    def insert_alerts(self, rows: Sequence[AlertRow]) -> int:
        """Keep alerts that their route does not know yet; return how many were new."""
        ...

    def failing(self, keys: Sequence[str]) -> Mapping[tuple[str, str], int]:
        """Return, by (route, group), the latest moment of what happened in groups that have not ended."""
        ...

    def alert_routes_due(self) -> Sequence[str]:
        """Return the routes that have new alerts, or a group whose time has come; sorted."""
        ...

    def lock_alert_routes(self, routes: Sequence[str]) -> Mapping[str, str]:
        """Insert what is absent, lock all, return the state of each route."""
        ...

    def new_alerts(self, route: str, limit: int) -> Sequence[AlertRow]:
        """Return new alerts of a locked route, oldest first."""
        ...

    def alerts_by_uid(self, uids: Sequence[str]) -> Mapping[str, AlertRow]:
        """Return alerts by uid."""
        ...

    def alert_groups(self, route: str, keys: Sequence[str]) -> Sequence[AlertGroup]:
        """Return the groups of a locked route that are named, and those whose time has come."""
        ...

    def put_alert_groups(self, groups: Sequence[AlertGroup]) -> None:
        """Insert or replace groups of locked routes."""
        ...

    def drop_alert_groups(self, route: str, keys: Sequence[str]) -> None:
        """Forget groups of a locked route."""
        ...

    def set_alerts(self, uids: Sequence[str], state: str, message: str | None = None, reason: str = "") -> None:
        """Move alerts on."""
        ...

    def tell_gathered(self, route: str, group: str, message: str) -> int:
        """Make all gathered alerts of a group, but for those that end it, part of a message; return how many."""
        ...

    def suppress_route(self, route: str, reason: str) -> int:
        """End all that waits on a route that is no more: alerts, groups, messages; return how many alerts."""
        ...

    def insert_messages(self, messages: Sequence[AlertMessage]) -> None:
        """Keep messages to send."""
        ...

    def messages_waiting(self, route: str) -> Mapping[int, int]:
        """Return how many messages have not been delivered, by target."""
        ...

    def claim_messages(self, limit: int, lease: int) -> Sequence[AlertMessage]:
        """Take messages that are due, oldest first; nobody else gets them for `lease` µs. Their attempts rise.

        Messages of one group reach a target in order: a later one is not due before the earlier one is done with.
        """
        ...

    def end_attempt(self, end: MessageEnd) -> bool:
        """Keep what became of an attempt, unless another one was made since; False then.

        When that settles the last target of a message, its alerts are `sent`, or `failed` if any target failed.
        """
        ...

    def alerts_next(self) -> int | None:
        """Return when a group or a message is due next (a moment in the past: at once); None when nothing waits."""
        ...

    def undelivered(self) -> Sequence[Undelivered]:
        """Return what could not be delivered so far, by route."""
        ...
