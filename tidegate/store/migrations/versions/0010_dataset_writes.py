"""How a dataset was written: by which name, disposition and partition, and what that changed of its columns.

Only adds columns that may be empty: a service of the version before leaves them so.

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLES = ("dataset_writes", "datasets")
_NAMES = ("dataset", "disposition", "partition", "changes")


def upgrade() -> None:
    for table in _TABLES:
        for name in _NAMES:
            kind = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
            op.add_column(table, sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for table in _TABLES:
        for name in reversed(_NAMES):
            op.drop_column(table, name)
