"""What tables are made of, the same for SQLite and PostgreSQL: names that `tidegate.store.schema` builds with."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData()


def text_type() -> TypeEngine[str]:
    """Return text that compares by its bytes on both databases."""
    return Text().with_variant(Text(collation="C"), "postgresql")


def text_column(name: str, *, key: bool = False, null: bool = False) -> "Column[str]":
    """Make a column of text."""
    return Column(name, text_type(), primary_key=key, nullable=null and not key)


def int_column(name: str, *, key: bool = False, null: bool = False, default: int | None = None) -> "Column[int]":
    """Make a column of whole numbers of 64 bits; `default` is what a version that does not know it writes."""
    given = None if default is None else text(str(default))
    return Column(
        name, BigInteger, primary_key=key, autoincrement=False, nullable=null and not key, server_default=given
    )


def seq_column() -> "Column[int]":
    """Make the column that numbers rows as they come."""
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def narrow(
    name: str, *columns: "Column[int] | Column[str] | Column[float] | Column[bytes] | PrimaryKeyConstraint"
) -> Table:
    """Make a table of small rows found by their key: on SQLite the key's b-tree is the table."""
    return Table(name, metadata, *columns, sqlite_with_rowid=False)


def wide(
    name: str, *columns: "Column[int] | Column[str] | Column[float] | Column[bytes] | PrimaryKeyConstraint"
) -> Table:
    """Make a table of rows that may be large or that carry a sequence."""
    return Table(name, metadata, *columns)


def where(condition: str) -> dict[str, Any]:
    """Return the arguments of an index over some rows only."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
