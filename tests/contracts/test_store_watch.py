"""What every store tells of what is watched: writes of datasets, how long runs take, and what checks found."""

from typing import Any

from pipelines.run import CheckResult, DatasetWrite, RunState
from tests.support.stores import T0, do, run
from tidegate.store.tx import ItemRefused, Store

SECOND = 1_000_000


def check(name: str, n: int = 0, **fields: Any) -> CheckResult:
    values: dict[str, Any] = {"passed": True, "severity": "fail", "message": f"{n} rows", "at": T0 + n}
    return CheckResult(check=name, task="work", dataset="daily", **{**values, **fields})


def write(name: str, at: int, mode: str = "write") -> DatasetWrite:
    return DatasetWrite(namespace="file", name=name, task="work", at=at, mode=mode)


async def test_the_last_write_of_a_dataset_is_known_by_its_name(store: Store) -> None:
    """What was only read was not written; what nobody wrote is not there."""
    await do(store, lambda tx: tx.insert_datasets("run_1", [write("a", T0), write("b", T0, "read")], []))
    await do(store, lambda tx: tx.insert_datasets("run_2", [write("a", T0 + 5), write("a", T0 + 9, "read")], []))
    names = [("file", "a"), ("file", "b"), ("file", "c"), ("s3", "a")]

    assert dict(await do(store, lambda tx: tx.written_at(names))) == {("file", "a"): T0 + 5}
    assert dict(await do(store, lambda tx: tx.written_at([]))) == {}


async def test_what_runs_usually_take_is_the_median_of_the_last_successes(store: Store) -> None:
    """Failures, runs of other pipelines and runs that have not ended do not count; of the successes the last twenty."""
    ended = [
        run(f"run_{n:02}", state=RunState.SUCCEEDED, started_at=T0, finished_at=T0 + (60 if n < 5 else n) * SECOND)
        for n in range(25)
    ]
    others = [
        run("run_f", state=RunState.FAILED, started_at=T0, finished_at=T0 + 900 * SECOND),
        run("run_r", state=RunState.RUNNING, started_at=T0),
        run("run_o", pipeline="other", state=RunState.SUCCEEDED, started_at=T0, finished_at=T0 + 1),
    ]
    assert await do(store, lambda tx: tx.usual_duration("p")) is None
    await do(store, lambda tx: tx.insert_runs([*ended, *others], []))

    assert await do(store, lambda tx: tx.usual_duration("p")) == 14_500_000
    assert await do(store, lambda tx: tx.usual_duration("other")) == 1
    assert await do(store, lambda tx: tx.usual_duration("none")) is None


async def test_runs_of_a_time_are_found_newest_first(store: Store) -> None:
    """The beginning is left out, the end belongs to it, and so do only runs of that pipeline."""
    runs = [run(f"run_{n}", created_at=T0 + n) for n in range(5)]
    await do(store, lambda tx: tx.insert_runs([*runs, run("run_o", pipeline="other", created_at=T0 + 2)], []))
    found = await do(store, lambda tx: tx.runs_between("p", T0 + 1, T0 + 3))

    assert [tuple(one) for one in found] == [("run_3", "queued", T0 + 3), ("run_2", "queued", T0 + 2)]


async def test_results_of_checks_keep_their_words_and_rows(store: Store) -> None:
    """A run's results come in order, with all that they say; what older versions wrote has no words of that kind."""
    told = check(
        "between(amount)", 1, passed=False, severity="warn", expected="≥ 0", actual="'a' \\ ü", sample='[{"id":1}]'
    )
    await do(store, lambda tx: tx.insert_datasets("run_1", [], [told, check("row_count", 2)]))
    first, second = await store.read(lambda reader: list(reader.run_checks("run_1")))

    assert dict(first) == {
        "run": "run_1",
        "check": "between(amount)",
        "task": "work",
        "dataset": "daily",
        "passed": False,
        "severity": "warn",
        "message": "1 rows",
        "at": T0 + 1,
        "expected": "≥ 0",
        "actual": "'a' \\ ü",
        "sample": '[{"id":1}]',
    }
    assert (second["passed"], second["expected"], second["sample"]) == (True, None, None)
    assert await store.read(lambda reader: list(reader.run_checks("none"))) == []


async def test_the_latest_result_of_each_check_is_known(store: Store) -> None:
    """Later runs overrule earlier ones, check by check; other datasets are left out."""
    await do(store, lambda tx: tx.insert_datasets("run_1", [], [check("a", 1, passed=False), check("b", 1)]))
    await do(store, lambda tx: tx.insert_datasets("run_2", [], [check("a", 2)]))
    found = await store.read(lambda reader: reader.last_checks(["daily", "none"]))

    assert list(found) == ["daily"]
    assert [(row["check"], row["run"], row["passed"]) for row in found["daily"]] == [
        ("a", "run_2", True),
        ("b", "run_1", True),
    ]


async def test_hostile_words_of_a_check_are_refused_as_a_whole(store: Store) -> None:
    """NUL enters no text column: the worker cleans what it tells, and the store holds nobody's slip."""
    if store.name == "memory":
        return
    try:
        await do(store, lambda tx: tx.insert_datasets("run_1", [], [check("a", message="nul \0")]))
    except ItemRefused:
        rows = await store.read(lambda reader: list(reader.run_checks("run_1")))
        assert rows == []
