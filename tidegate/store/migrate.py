"""The schema's version: asked by plain SQL at every start, changed by Alembic only when it has to be.

An empty SQLite file gets `migrations/head.sqlite.sql` instead: what all migrations together make, written out, because
loading SQLAlchemy and Alembic takes longer than everything else at the first start. A test compares the two;
`python -m tidegate.store.migrate` prints the text anew.

Versions are numbers as text (`0001`, …). A service runs on its own version and on the next one, because migrations
expand before they contract; anything else is refused with a sentence.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.store.tx import StoreError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

HEAD = "0011"
_LOCK = 7_433_427_283  # any number that all versions of this service share


def is_current(version: str | None) -> bool:
    """Say whether this service runs on that version. Raises StoreError for one from too far in the future."""
    if version is None or not version.isdigit():
        return False
    ahead = int(version) - int(HEAD)
    if ahead > 1:
        raise StoreError(f"The store's schema is version {version}, this service knows {HEAD}: run a newer service.")
    return ahead >= 0


def upgrade(connect: Callable[[], AbstractContextManager["Connection"]], to: str = "head") -> None:
    """Bring the schema to a version over the SQLAlchemy connection that `connect` opens, all of it or nothing."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        connection.commit()


def upgrade_sqlite(raw: Any, to: str = "head") -> None:
    """Bring the schema behind an open sqlite3 connection (in autocommit) to a version."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    upgrade(engine.connect, to)


def create_sqlite(raw: Any) -> None:
    """Make the whole schema in an empty sqlite3 database (in autocommit), all of it or nothing."""
    script = Path(__file__).with_name("migrations").joinpath("head.sqlite.sql").read_text()
    raw.execute("BEGIN IMMEDIATE")
    try:
        for statement in script.split(";\n"):
            if statement.strip():
                raw.execute(statement)
        raw.execute("COMMIT")
    except BaseException:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        raise


def head_sql() -> str:
    """Return what all migrations make of an empty SQLite database, as SQL."""
    import sqlite3

    raw = sqlite3.connect(":memory:", isolation_level=None)
    try:
        upgrade_sqlite(raw)
        found = raw.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    finally:
        raw.close()
    version = f"INSERT INTO alembic_version (version_num) VALUES ('{HEAD}')"
    return "".join(f"{sql};\n" for sql in (*(row[0] for row in found), version))


def upgrade_postgres(connect: Callable[[], Any], to: str = "head") -> None:
    """Bring the schema behind psycopg connections (`connect` opens one) to a version; one replica at a time."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    event.listen(
        engine, "begin", lambda connection: connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    )
    upgrade(engine.connect, to)


if __name__ == "__main__":
    import sys

    sys.stdout.write(head_sql())
