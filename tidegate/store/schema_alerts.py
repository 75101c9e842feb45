"""The tables of alerts, on their way to people; `tidegate.store.schema` gathers all tables."""

from sqlalchemy import Index

from tidegate.store.columns import int_column as _i
from tidegate.store.columns import narrow as _table
from tidegate.store.columns import text_column as _t
from tidegate.store.columns import where as _where
from tidegate.store.columns import wide as _wide

__all__ = ["alert_groups", "alert_messages", "alerts"]

alerts = _wide(
    "alerts",
    _t("uid", key=True),
    _t("route"),
    _t("id"),
    _t("kind"),
    _t("severity"),
    _t("subject"),
    _t("grp"),
    _i("at"),
    _t("text"),
    _i("count"),
    _i("ends"),
    _t("labels"),
    _t("state"),
    _t("message", null=True),
    _t("reason"),
)
Index("ix_alerts_id", alerts.c.route, alerts.c.id, unique=True)  # once per route
Index("ix_alerts_new", alerts.c.route, alerts.c.uid, **_where("state = 'new'"))  # what is to be planned
Index("ix_alerts_gathered", alerts.c.route, alerts.c.grp, **_where("state = 'gathered'"))  # what a message takes up
Index("ix_alerts_group", alerts.c.grp, **_where("state = 'new'"))  # what has happened, although nobody looked yet
Index("ix_alerts_message", alerts.c.message, **_where("message IS NOT NULL"))  # what a message told of

alert_groups = _table(
    "alert_groups",
    _t("route", key=True),
    _t("key", key=True),  # "": the route itself
    _t("kind"),
    _i("open"),
    _i("last_at"),
    _i("next_at", null=True),
    _t("state"),
)
Index("ix_alert_groups_next", alert_groups.c.next_at, **_where("next_at IS NOT NULL"))  # what is due
Index("ix_alert_groups_key", alert_groups.c.key, **_where("open = 1"))  # what has not ended

alert_messages = _wide(
    "alert_messages",
    _t("message", key=True),
    _i("target", key=True),
    _t("route"),
    _t("grp"),
    _i("made_at"),
    _t("body"),
    _t("state"),
    _i("attempts"),
    _i("next_at"),
    _t("error"),
    _i("done_at", null=True),
)
Index("ix_alert_messages_due", alert_messages.c.next_at, **_where("state = 'pending'"))  # claims
Index(  # order within a group
    "ix_alert_messages_group",
    alert_messages.c.route,
    alert_messages.c.target,
    alert_messages.c.grp,
    alert_messages.c.message,
    **_where("state = 'pending'"),
)
