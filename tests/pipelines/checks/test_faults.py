"""The table of injected faults × checks: each is caught where it should be, and only there, in words to act on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from pipelines.checks.evaluate import evaluate
from pipelines.checks.finding import Around, Finding
from pipelines.checks.registry import KINDS
from pipelines.checks.spec import CheckSpec
from pipelines.workers.functions import Functions
from tests.pipelines.checks.faults import CHECKS, FAULTS, LAST, NOW, Fault

BACKENDS = ("frame", "table")
ALIKE = ("count", "same keys", "rule", "model")  # do the same wherever the data lies


@contextmanager
def as_backend(frame: pl.DataFrame, backend: str) -> Iterator[Any]:
    """Give the data as a frame of Polars, or a table inside DuckDB."""
    if backend == "frame":
        yield frame
    else:
        with duckdb.connect() as connection:
            connection.register("incoming", frame.to_arrow())
            connection.execute("create table given as from incoming")
            yield connection.table("given")


def judged(fault: Fault, backend: str, folder: Path) -> dict[str, Finding]:
    fault.other.write_parquet(folder / "other.parquet")
    functions = Functions()
    around = Around(
        now=int(NOW.timestamp() * 1e6),
        last=LAST,
        base=folder,
        resolve=lambda reference: functions.named(reference, str(Path.cwd())),
    )
    chosen = {name: spec for name, spec in CHECKS.items() if backend == "frame" or name not in ALIKE}
    with as_backend(fault.frame, backend) as data:
        findings = evaluate(data, list(chosen.values()), around)
    return dict(zip(chosen, findings, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught_where_it_should_be_and_only_there(fault: Fault, backend: str, tmp_path: Path) -> None:
    """For each fault exactly the checks that are about it do not pass; their words name column, expected and found."""
    found = judged(fault, backend, tmp_path)

    caught = {name: parts for name, parts in fault.caught.items() if name in found}
    assert {name for name, finding in found.items() if not finding.passed} == set(caught)
    for name, parts in caught.items():
        for part in parts:
            assert part in found[name].message
        assert found[name].verdict.expected
        assert found[name].verdict.actual


def test_every_kind_of_check_is_in_the_table_and_catches_something() -> None:
    """A new kind of check needs a line here, and a fault that it catches."""
    assert {spec.kind for spec in CHECKS.values()} == set(KINDS)
    assert {name for fault in FAULTS for name in fault.caught} == set(CHECKS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sample_shows_the_offending_rows(backend: str, tmp_path: Path) -> None:
    """Of one bad row the sample holds that row: the checked column first, then those by which it can be found."""
    fault = next(one for one in FAULTS if one.name == "out of range")
    (row,) = judged(fault, backend, tmp_path)["range"].verdict.sample

    assert next(iter(row)) == "amount"
    assert row == {
        "amount": 5000.0,
        "id": 3,
        "day": "2026-03-01",
        "state": "new",
        "email": "u3@example.com",
        "updated_at": "2026-03-02T04:57:00",
    }


@pytest.mark.parametrize("name", [name for name, spec in CHECKS.items() if spec.kind not in ("row_count", "schema")])
def test_redacted_values_appear_nowhere(name: str, tmp_path: Path) -> None:
    """Whatever a redacted check says, shows or fails with, it holds none of the values."""
    from dataclasses import replace

    secrets = ["5000", "0.25", "lost", "u2@exam", "1970", "T00:00:00", "100; 101"]
    for fault in [one for one in FAULTS if one.name == "nothing" or name in one.caught][:4]:
        fault.other.write_parquet(tmp_path / "other.parquet")
        around = Around(
            now=int(NOW.timestamp() * 1e6),
            last=LAST,
            base=tmp_path,
            resolve=lambda reference: Functions().named(reference, str(Path.cwd())),
        )
        (finding,) = evaluate(fault.frame, [replace(CHECKS[name], redact=True)], around)
        told = f"{finding.message} {finding.verdict.actual} {list(finding.verdict.sample)}"

        assert finding.passed == (name not in fault.caught)
        assert [secret for secret in secrets if secret in told] == []


def test_only_named_columns_are_redacted() -> None:
    """`redact: [email]` hides the addresses, and shows the keys by which the rows can be found."""
    frame = pl.DataFrame({"id": [1, 2], "email": ["a@b.c", "nonsense"]})
    spec = CheckSpec("matches", {"column": "email", "pattern": ".+@.+"}, redact=["email"])
    (finding,) = evaluate(frame, [spec], Around(now=0))

    assert finding.message == "email: 1 of 2 values are not like `.+@.+` as a whole"
    assert list(finding.verdict.sample) == [{"email": "***", "id": 2}]


def loud(frame: pl.DataFrame, how: str) -> object:
    """Tell of a value in one of the ways in which functions can."""
    said = f"found {frame['email'][0]}"
    if how == "raise":
        raise ValueError(said)
    if how == "assert":
        raise AssertionError(said)
    return said if how == "words" else (False, said)


@pytest.mark.parametrize("how", ["raise", "assert", "words", "pair"])
def test_what_a_function_says_is_redacted_as_well(how: str) -> None:
    """Words of one's own function may hold values: with `redact` only the verdict is told, without it the words."""
    options = {"function": "tests.pipelines.checks.test_faults:loud", "args": {"how": how}}
    frame = pl.DataFrame({"email": ["a@b.c"]})
    around = Around(now=0, resolve=lambda _: loud)
    specs = [CheckSpec("custom", options, redact=True), CheckSpec("custom", options)]
    hidden, shown = evaluate(frame, specs, around)

    assert not hidden.passed
    assert not shown.passed
    assert "a@b.c" not in f"{hidden.message}{hidden.verdict.actual}"
    assert "a@b.c" in shown.message
