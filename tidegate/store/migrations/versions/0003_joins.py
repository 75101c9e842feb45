"""The keys that patterns wait for. Only adds: a service of the version before does not see it.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _t(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False)


def _i(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def upgrade() -> None:
    op.create_table(
        "rounds",
        _t("trigger"),
        _t("key"),
        _t("phase"),
        _t("uid"),
        _t("meaning"),
        _t("version"),
        _i("since"),
        _i("due"),
        _i("taken"),
        _i("counted"),
        _i("as_of"),
        sa.PrimaryKeyConstraint("trigger", "key"),
        sqlite_with_rowid=False,
    )
    done = sa.text("phase <> 'open'")
    op.create_index("ix_rounds_done", "rounds", ["due"], sqlite_where=done, postgresql_where=done)
    op.create_table(
        "round_events",
        _t("trigger"),
        _t("key"),
        _t("part"),
        _t("event"),
        _i("at"),
        _i("depth"),
        sa.PrimaryKeyConstraint("trigger", "key", "part", "event"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("round_events")
    op.drop_table("rounds")
