"""Priorities of runs. Only adds: a service of the version before writes and claims runs without looking at it.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column("priority", sa.BigInteger(), autoincrement=False, nullable=False, server_default=sa.text("0")),
    )
    urgent = sa.text("state = 'queued' AND priority > 0")
    op.create_index(
        "ix_runs_urgent", "runs", ["pipeline", "priority", "seq"], sqlite_where=urgent, postgresql_where=urgent
    )


def downgrade() -> None:
    op.drop_index("ix_runs_urgent", "runs")
    op.drop_column("runs", "priority")
