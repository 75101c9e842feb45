"""Stores of datasets are asked, and only asked: files and DuckDB here, Snowflake by an emulator of its driver."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from pipelines.checks.standing import answered, probe
from pipelines.datasets.asking import ask, opened, postgres_conninfo, shown, table_of
from pipelines.datasets.written import TargetBusy, TargetUnusable
from pipelines.errors import TaskFailed


def at(day: int, hour: int = 0) -> datetime:
    """Return a time in January 2026 without a zone, as databases hold them."""
    return datetime(2026, 1, day, hour, tzinfo=UTC).replace(tzinfo=None)


FRAME = pl.DataFrame({"id": [1, 2], "seen": [at(1, 6), at(2, 6)]})
SECOND_OF_JANUARY = 1_767_333_600_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the same rows as files and as a table of DuckDB in a schema of its own."""
    FRAME.write_parquet(tmp_path / "it's.parquet")
    FRAME.write_csv(tmp_path / "data.csv")
    FRAME.write_ndjson(tmp_path / "data.jsonl")
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.register("incoming", FRAME.to_arrow())
        connection.execute("create schema mart; create table mart.daily as from incoming")
    return tmp_path


@pytest.mark.parametrize(
    ("uri", "table"),
    [
        ("parquet://it's.parquet", "data"),
        ("csv://data.csv", "data"),
        ("jsonl://data.jsonl", "data"),
        ("duckdb://shop.duckdb/mart.daily", "daily"),  # found without its schema
    ],
)
def test_a_store_answers_how_fresh_its_data_is(folder: Path, uri: str, table: str) -> None:
    """The same probe works on each of them, and each can be judged where it lies."""
    asked = probe(uri, f"select max(seen) from {table}", str(folder))
    with opened(uri, None, folder) as data:
        rows = data.aggregate("count(*)").fetchall()

    assert asked == SECOND_OF_JANUARY
    assert rows == [(2,)]
    assert ask(uri, None, f"select count(*) from {table_of(uri)}", folder) == [(2,)]


@pytest.mark.parametrize("statement", ["delete from daily", "create table more as select 1", "drop table daily"])
def test_nothing_can_be_changed_by_asking(folder: Path, statement: str) -> None:
    """A statement that would write is refused, and told as an error of the question."""
    with pytest.raises(TaskFailed, match="read-only"):
        probe("duckdb://shop.duckdb/mart.daily", statement, str(folder))

    assert ask("duckdb://shop.duckdb/mart.daily", None, "select count(*) from daily", folder) == [(2,)]


def test_a_file_that_another_process_writes_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is a matter of time: after it the sentence says who is in the way, and that is no bad data."""
    monkeypatch.setattr("pipelines.datasets.asking.WAIT", 0.05)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "shop.duckdb")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(TargetBusy, match="in use by another process"):
            ask("duckdb://shop.duckdb/mart.daily", None, "select 1", folder)
    finally:
        holder.stdin.close()
        holder.wait(20)
        holder.stdout.close()

    assert ask("duckdb://shop.duckdb/mart.daily", None, "select 1", folder) == [(1,)]


@pytest.mark.parametrize(
    ("rows", "at"),
    [
        ([], None),
        ([(None,)], None),
        ([(at(2, 6),)], SECOND_OF_JANUARY),
        ([(datetime(2026, 1, 2, 6, tzinfo=UTC),)], SECOND_OF_JANUARY),
        ([(at(2).date(),)], SECOND_OF_JANUARY - 7 * 3_600_000_000),  # midnight in Oslo is 23:00Z
        ([("2026-01-02",)], SECOND_OF_JANUARY - 7 * 3_600_000_000),
        ([("2026-01-02T07:00:00+01:00",)], SECOND_OF_JANUARY),
        ([(1_767_333_600,)], SECOND_OF_JANUARY),
        ([(1_767_333_600.0,)], SECOND_OF_JANUARY),
    ],
)
def test_an_answer_is_a_moment(rows: list[Any], at: int | None) -> None:
    """Times without a zone are UTC, dates begin where the dataset is due, numbers are seconds since 1970."""
    assert answered(rows, "Europe/Oslo", SECOND_OF_JANUARY, "daily") == at


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(1,), (2,)], "answered 2 rows"),
        ([(1, 2)], "answered 2 columns"),
        ([("yesterday",)], "answered 'yesterday'; write one that selects a date"),
        ([(True,)], "answered True"),
        ([(1e30,)], "answered 1e\\+30"),
        ([("2099-01-01T00:00:00",)], "2099-01-01T00:00:00\\+00:00, which lies in the future"),
    ],
)
def test_what_is_no_moment_says_what_would_be(rows: list[Any], said: str) -> None:
    """A wrong probe is an error of the probe, with a remedy: a future time would hide staleness for years."""
    with pytest.raises(TaskFailed, match=said):
        answered(rows, "UTC", SECOND_OF_JANUARY, "daily")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("parquet://none.parquet", "nothing was written there yet"),
        ("duckdb://shop.duckdb/mart.none", "none"),
        ("ftp://x/y", "cannot be queried; what can be is duckdb://"),
    ],
)
def test_what_cannot_be_asked_says_why(folder: Path, uri: str, said: str) -> None:
    """The sentence names what is not there, or what could be asked."""
    with pytest.raises((TargetUnusable, ValueError), match=said):
        ask(uri, None, f"select * from {table_of(uri)}", folder)


def test_tables_are_quoted_and_secrets_are_not_shown() -> None:
    """Names are data, not SQL; a password in a URI is in no sentence."""
    assert table_of('duckdb://f.duckdb/main.or"ders') == '"main"."or""ders"'
    assert table_of("postgresql://h/shop/orders") == '"public"."orders"'
    assert table_of("snowflake://org-acct/analytics.public.daily") == "analytics.public.daily"
    assert shown("postgresql://me:secret@h:5432/shop/public.t") == "postgresql://h:5432/shop/public.t"
    with pytest.raises(ValueError, match="names no table"):
        table_of("postgresql://h/shop/a.b.c")


def test_postgresql_is_reached_by_the_connection_or_the_uri() -> None:
    """A connection's URL is taken as it is; its parts go before those of the URI."""
    uri = "postgresql://me@db.example:5433/shop/public.orders"

    assert postgres_conninfo(uri, {"kind": "postgresql", "url": "postgresql://x@y/z"}) == "postgresql://x@y/z"
    assert postgres_conninfo(uri, None) == "host=db.example port=5433 user=me dbname=shop"
    found = postgres_conninfo(uri, {"kind": "postgresql", "user": "you", "password": "p w", "database": "other"})
    assert found == "host=db.example port=5433 user=you dbname=other password='p w'"


@pytest.mark.campaign  # the emulator takes seconds to load
@pytest.mark.filterwarnings("ignore:Arrow output on a DB-API result:UserWarning")  # of the emulator
def test_snowflake_is_asked_through_its_driver(tmp_path: Path) -> None:
    """A table is found in the database and schema of the URI, asked for its freshness, and judged."""
    import fakesnow
    import snowflake.connector

    uri = "snowflake://org-acct/analytics.public.daily"
    connection = {"kind": "snowflake", "account": "org-acct", "user": "me", "password": "x"}
    with fakesnow.patch(create_database_on_connect=True, create_schema_on_connect=True):
        with snowflake.connector.connect(database="ANALYTICS", schema="PUBLIC", account="org-acct") as link:
            link.cursor().execute("create table daily (id int, updated_at timestamp_ntz)")
            link.cursor().execute("insert into daily values (1, '2026-01-02 06:00:00'), (2, null)")
        asked = probe(uri, "select max(updated_at) from daily", str(tmp_path), connection=connection)
        with opened(uri, connection, tmp_path) as frame:
            rows = frame.to_dicts()
        with pytest.raises(TaskFailed, match="the query on snowflake://org-acct/analytics"):
            probe(uri, "select max(x) from nothing", str(tmp_path), connection=connection)

    assert asked == SECOND_OF_JANUARY
    assert [row["ID"] for row in rows] == [1, 2]
