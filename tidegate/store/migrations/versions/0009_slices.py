"""Slices: what a task run is about, and since when it has been tried. Only adds columns that may be empty.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("task_runs", sa.Column("item", sa.Text().with_variant(sa.Text(collation="C"), "postgresql")))
    op.add_column("task_runs", sa.Column("first_started_at", sa.BigInteger(), autoincrement=False))


def downgrade() -> None:
    for name in ("first_started_at", "item"):
        op.drop_column("task_runs", name)
