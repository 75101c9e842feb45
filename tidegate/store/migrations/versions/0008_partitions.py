"""Lists of runs by partition, without looking at all runs. Only adds an index.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    named = sa.text("partition IS NOT NULL")
    op.create_index("ix_runs_partition", "runs", ["partition", "seq"], sqlite_where=named, postgresql_where=named)


def downgrade() -> None:
    op.drop_index("ix_runs_partition", "runs")
