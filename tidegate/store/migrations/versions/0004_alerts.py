"""Alerts: an outbox, groups, messages. Only adds: a service of the version before does not see it.

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _t(name: str, *, null: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=null)


def _i(name: str, *, null: bool = False) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=null)


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def upgrade() -> None:
    op.create_table(
        "alerts",
        _t("uid"),
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
        sa.PrimaryKeyConstraint("uid"),
    )
    op.create_index("ix_alerts_id", "alerts", ["route", "id"], unique=True)
    _index("ix_alerts_new", "alerts", ["route", "uid"], "state = 'new'")
    _index("ix_alerts_gathered", "alerts", ["route", "grp"], "state = 'gathered'")
    _index("ix_alerts_group", "alerts", ["grp"], "state = 'new'")
    _index("ix_alerts_message", "alerts", ["message"], "message IS NOT NULL")
    op.create_table(
        "alert_groups",
        _t("route"),
        _t("key"),
        _t("kind"),
        _i("open"),
        _i("last_at"),
        _i("next_at", null=True),
        _t("state"),
        sa.PrimaryKeyConstraint("route", "key"),
        sqlite_with_rowid=False,
    )
    _index("ix_alert_groups_next", "alert_groups", ["next_at"], "next_at IS NOT NULL")
    _index("ix_alert_groups_key", "alert_groups", ["key"], "open = 1")
    op.create_table(
        "alert_messages",
        _t("message"),
        _i("target"),
        _t("route"),
        _t("grp"),
        _i("made_at"),
        _t("body"),
        _t("state"),
        _i("attempts"),
        _i("next_at"),
        _t("error"),
        _i("done_at", null=True),
        sa.PrimaryKeyConstraint("message", "target"),
    )
    _index("ix_alert_messages_due", "alert_messages", ["next_at"], "state = 'pending'")
    _index("ix_alert_messages_group", "alert_messages", ["route", "target", "grp", "message"], "state = 'pending'")


def downgrade() -> None:
    for table in ("alert_messages", "alert_groups", "alerts"):
        op.drop_table(table)
