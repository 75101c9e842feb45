"""Replays, the runs they started, and dead letters that were tried again. Only adds: the version before sees nothing.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0004"
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
        "replays",
        _t("uid"),
        _t("request_id"),
        _t("spec"),
        _i("created_at"),
        _t("state"),
        _t("position"),
        _t("counts"),
        _t("samples"),
        _i("next_at"),
        _t("holder"),
        _i("lease_until"),
        _i("finished_at", null=True),
        _t("reason"),
        sa.PrimaryKeyConstraint("uid"),
    )
    op.create_index("ix_replays_request", "replays", ["request_id"], unique=True)
    _index("ix_replays_open", "replays", ["next_at", "uid"], "state IN ('queued', 'running')")
    _index("ix_replays_finished", "replays", ["finished_at"], "finished_at IS NOT NULL")
    op.create_table(
        "replay_runs",
        _t("replay"),
        _t("cause"),
        _t("trigger"),
        _i("rule"),
        _i("item"),
        _t("run"),
        _t("origin", null=True),
        sa.PrimaryKeyConstraint("replay", "cause", "trigger", "rule", "item"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_replay_runs_run", "replay_runs", ["run"], unique=True)
    op.create_index("ix_replay_runs_list", "replay_runs", ["replay", "run"])
    _index("ix_replay_runs_origin", "replay_runs", ["origin"], "origin IS NOT NULL")
    op.create_table(
        "retried_letters",
        _t("letter"),
        _i("at"),
        _t("became"),
        sa.PrimaryKeyConstraint("letter"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_retried_letters_at", "retried_letters", ["at"])


def downgrade() -> None:
    for table in ("retried_letters", "replay_runs", "replays"):
        op.drop_table(table)
