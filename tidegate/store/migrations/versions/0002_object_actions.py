"""What is to be done to objects after their runs. Only adds: a service of the version before does not see it.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _t(name: str, *, null: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=null)


def _i(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def upgrade() -> None:
    op.create_table(
        "object_actions",
        _t("uid"),
        _t("sensor"),
        _t("event"),
        _t("key"),
        _t("etag"),
        _t("action"),
        _t("target"),
        _t("tags", null=True),
        _t("moment"),
        _i("created_at"),
        _i("ready"),
        sa.PrimaryKeyConstraint("uid"),
        sqlite_with_rowid=False,
    )
    ready = sa.text("ready = 1")
    op.create_index(
        "ix_object_actions_ready", "object_actions", ["sensor", "uid"], sqlite_where=ready, postgresql_where=ready
    )
    op.create_index("ix_object_actions_key", "object_actions", ["sensor", "key", "uid"])
    op.create_index("ix_object_actions_event", "object_actions", ["event", "created_at"])


def downgrade() -> None:
    op.drop_table("object_actions")
