import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from pipelines.datasets.duckdb_table import write_table
from pipelines.datasets.files import write_file
from pipelines.datasets.target import Target, parse_target
from pipelines.datasets.values import ValueTrouble, keep, load
from pipelines.datasets.written import Last, StaleWrite, Stamp, TargetBusy, TargetUnusable, Written

FRAME = pl.DataFrame({"id": [1, 2, 3], "name": ["a", None, "c"]})
DAY = 86_400_000_000


def stamp(run: str = "run_1", fence: int = 1, attempt: int = 1, *, at: int = 1, task: str = "t") -> Stamp:
    return Stamp(run, fence, task, "", attempt, at)


def accept(last: Last | None) -> None:
    """Let everything pass."""


def write(target: Target, frame: Any, who: Stamp, judge: Any = accept, mode: str = "replace") -> Written:
    if target.scheme == "duckdb":
        return write_table(target, frame, who, mode, judge)
    return write_file(target, frame, who, judge)


def read(target: Target) -> pl.DataFrame:
    match target.scheme:
        case "parquet":
            return pl.read_parquet(target.path)
        case "csv":
            return pl.read_csv(target.path)
        case _:
            with duckdb.connect(str(target.path), read_only=True) as connection:
                rows = connection.execute(f'from "{target.schema}"."{target.table}"').fetchall()
                return pl.DataFrame(rows, schema=["id", "name"], orient="row")


@pytest.fixture(params=["duckdb", "parquet", "csv"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    table = "/main.orders" if request.param == "duckdb" else ""
    return parse_target(f"{request.param}://sub/data.{request.param}{table}", tmp_path)


def test_writing_twice_leaves_one_copy(target: Target) -> None:
    """A repeated write of the same attempt leaves the data once, and tells the same."""
    first = write(target, FRAME, stamp())
    second = write(target, FRAME, stamp())

    assert first.rows == second.rows == 3
    assert first.schema == (("id", "Int64"), ("name", "String"))
    assert first.version == second.version == "run_1.1"
    assert read(target)["id"].to_list() == [1, 2, 3]


def test_the_judge_decides_before_anything_is_published(target: Target) -> None:
    """A judge that raises leaves the old data; the judge sees the last write of another run, not its own run's."""
    seen: list[Last | None] = []
    write(target, FRAME, stamp(), seen.append)
    write(target, FRAME.head(1), stamp(attempt=2), seen.append)

    def refuse(last: Last | None) -> None:
        seen.append(last)
        raise LookupError("no")

    with pytest.raises(LookupError):
        write(target, FRAME.head(2), stamp("run_2", 7, at=5), refuse)

    assert seen == [None, None, Last(1, (("id", "Int64"), ("name", "String")))]
    assert read(target).height == 1
    assert not list(target.path.parent.glob(".*.tmp"))


def test_older_holders_and_attempts_are_refused(target: Target) -> None:
    """Of one run, a lower fencing token or an earlier attempt cannot write after a newer one; another run can."""
    write(target, FRAME, stamp(fence=5, attempt=2))

    with pytest.raises(StaleWrite, match="fencing token 5"):
        write(target, FRAME.head(1), stamp(fence=4, attempt=9))
    with pytest.raises(StaleWrite):
        write(target, FRAME.head(1), stamp(fence=5, attempt=1))
    with pytest.raises(StaleWrite):
        write(target, FRAME.head(1), stamp(fence=4, attempt=1, task="another"))
    assert read(target).height == 3
    write(target, FRAME.head(1), stamp("run_2", fence=1, at=2))
    assert read(target).height == 1


def test_append_is_done_once_per_run(tmp_path: Path) -> None:
    """Appending adds rows by name, once per run, however often the attempt is repeated."""
    target = parse_target("duckdb://x.duckdb/orders", tmp_path)
    for who in (stamp(), stamp(), stamp(fence=2, attempt=2), stamp("run_2", at=2)):
        write(target, FRAME.select("name", "id"), who, mode="append")

    with duckdb.connect(str(target.path)) as connection:
        assert connection.execute("select count(*), sum(id) from orders").fetchone() == (6, 12)


def test_old_records_go_but_the_last_stays(tmp_path: Path) -> None:
    """Records older than a month are forgotten, except what the next write is compared with."""
    target = parse_target("duckdb://x.duckdb/orders", tmp_path)
    seen: list[Last | None] = []
    for number, day in enumerate((0, 1, 50, 90)):
        write(target, FRAME.head(number), stamp(f"run_{number}", at=day * DAY), seen.append)
        write(target, FRAME.head(number), stamp(f"run_{number}", attempt=2, at=day * DAY), seen.append)

    assert [last and last.rows for last in seen] == [None, None, 0, 0, 1, 1, 2, 2]
    with duckdb.connect(str(target.path)) as connection:
        assert connection.execute("select run from _tidegate_writes order by run").fetchall() == [
            ("run_2",),
            ("run_3",),
        ]


def test_tables_have_hostile_names_and_types(tmp_path: Path) -> None:
    """Names are quoted, and Polars' types arrive as DuckDB's."""
    target = parse_target('duckdb://x.duckdb/s "x".a; drop table y', tmp_path)
    frame = pl.DataFrame(
        {
            'odd "name"': pl.Series([1], dtype=pl.UInt8),
            "d": pl.Series(["2026-01-02"]).str.to_date(),
            "c": pl.Series(["x"], dtype=pl.Categorical),
            "l": [[1, 2]],
            "n": [None],
        }
    )
    write(target, frame, stamp())

    with duckdb.connect(str(target.path)) as connection:
        row = connection.execute('from "s ""x"""."a; drop table y"').fetchone()
        assert row is not None
        assert (row[0], str(row[1]), row[2], row[3], row[4]) == (1, "2026-01-02", "x", [1, 2], None)


def test_a_busy_file_is_waited_for(tmp_path: Path) -> None:
    """While another process has the DuckDB file the writer waits, and gives up as busy in the end."""
    target = parse_target("duckdb://x.duckdb/orders", tmp_path)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(target.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        with pytest.raises(TargetBusy):
            write_table(target, FRAME, stamp(), "replace", accept, lambda _: None)

        def let_go(_: float) -> None:
            assert holder.stdin is not None
            holder.stdin.close()
            holder.wait()

        assert write_table(target, FRAME, stamp(), "replace", accept, let_go).rows == 3
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_unusable_targets_say_why(tmp_path: Path) -> None:
    """What is no database, a folder that is a file, and types that CSV cannot hold are named."""
    (tmp_path / "text.duckdb").write_text("this is no database, but text that is long enough to be read as one" * 100)
    with pytest.raises(TargetUnusable, match=r"text\.duckdb cannot be opened"):
        write(parse_target("duckdb://text.duckdb/t", tmp_path), FRAME, stamp())
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetUnusable, match="could not be written"):
        write(parse_target("csv://file/x.csv", tmp_path), FRAME, stamp())
    with pytest.raises(TargetUnusable, match="cannot be written as csv"):
        write(parse_target("csv://x.csv", tmp_path), pl.DataFrame({"l": [[1]]}), stamp())
    with pytest.raises(TargetUnusable, match="without columns"):
        write(parse_target("duckdb://x.duckdb/t", tmp_path), pl.DataFrame(), stamp())
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    "uri",
    [
        "x.csv",
        "s3://b/x",
        "csv://",
        "csv://a/",
        "duckdb://x.duckdb",
        "duckdb://x/a.b.c",
        "duckdb://x/.t",
        "csv://a?b",
        "csv://a\x00",
    ],
)
def test_bad_output_uris_are_refused(uri: str, tmp_path: Path) -> None:
    """An output URI that cannot be is a ValueError that quotes it."""
    with pytest.raises(ValueError, match="output "):
        parse_target(uri, tmp_path)


def test_paths_are_relative_to_the_base_or_absolute(tmp_path: Path) -> None:
    """Two slashes are relative to the base folder, three absolute; a table's schema defaults to main."""
    assert parse_target("csv://a/x.csv", tmp_path).path == tmp_path / "a" / "x.csv"
    assert parse_target("csv:///a/x.csv", tmp_path).path == Path("/a/x.csv")
    assert parse_target("duckdb:///a/x.duckdb/t", tmp_path) == Target("duckdb", Path("/a/x.duckdb"), "main", "t")
    assert parse_target("duckdb:///a/x.duckdb/s.t", tmp_path).name == "/a/x.duckdb/s.t"


def test_values_come_back_as_they_went(tmp_path: Path) -> None:
    """Frames, other things that speak Arrow, and plain values come back equal; the rest is refused with a remedy."""
    assert load(keep(FRAME, tmp_path, "a/b")).equals(FRAME)
    assert load(keep(FRAME.lazy(), tmp_path, "b")).equals(FRAME)
    assert load(keep(FRAME["id"], tmp_path, "c"))["id"].to_list() == [1, 2, 3]
    assert load(keep(duckdb.sql("select 1 as x"), tmp_path, "d"))["x"].to_list() == [1]
    for value in (None, 1, "x", {"a": [1.5]}, {"$value": 1}, "y" * 300_000):
        assert load(keep(value, tmp_path, "e")) == value
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ValueTrouble, match="return a DataFrame or plain values"):
        keep({1, 2}, tmp_path, "f")
