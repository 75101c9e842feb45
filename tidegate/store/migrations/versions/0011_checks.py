"""Checks: what was expected, what was found, a few offending rows. Only adds: a service of the version before does not
see it.

Revision: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("expected", "actual", "sample"):
        text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
        op.add_column("checks", sa.Column(name, text, nullable=True))
    op.create_index("ix_checks_dataset", "checks", ["dataset", "seq"])


def downgrade() -> None:
    op.drop_index("ix_checks_dataset", "checks")
    for name in ("sample", "actual", "expected"):
        op.drop_column("checks", name)
