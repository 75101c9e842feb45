"""Unmodified programs that speak Dagster Pipes, under the engine `command`: Python, Rust, and such as misbehave."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.command import KIND
from pipelines.errors import TaskFailed
from pipelines.ports import TaskResult
from pipelines.run import DatasetWrite
from tests.support.engine_contexts import TRACEPARENT, make_context, make_settings
from tests.support.rust import built

HERE = Path(__file__).parent
OPEN = "from dagster_pipes import open_dagster_pipes, PipesContext\n"
Lines = list[tuple[str, str]]


async def run(
    folder: Path,
    argv: list[str],
    pipes: Any,
    lines: Lines | None = None,
    params: Mapping[str, Any] | None = None,
    **options: Any,
) -> TaskResult:
    """Run a program to its end."""
    engine = KIND.build(make_settings(folder))
    kept: Lines = [] if lines is None else lines
    context = make_context(
        "command",
        {"argv": argv, "pipes": pipes, **options},
        params=params,
        log=lambda stream, text: kept.append((stream, text)),
    )
    try:
        result = await engine.poll(context, await engine.start(context))
    finally:
        await engine.close()
    assert result is not None
    return result


def script(code: str) -> list[str]:
    return [sys.executable, "-c", OPEN + code]


async def test_a_python_program_runs_unchanged(tmp_path: Path) -> None:
    """Its logs, prints, check, materialisation and message arrive; it sees run, partition, parameters and trace."""
    lines: Lines = []
    pipes = {"assets": {"warehouse/orders": f"duckdb://{tmp_path}/w.duckdb/main.orders"}}
    argv = [sys.executable, str(HERE / "scripts" / "orders.py")]
    result = await run(tmp_path, argv, pipes, lines, {"rows": 42})

    (write,) = result.datasets
    assert (write.namespace, write.name) == ("duckdb", f"{tmp_path}/w.duckdb/main.orders")
    assert (write.rows, write.version) == (42, "v7")
    assert write.schema == (("id", "int"), ("amount", "float"))
    (check,) = result.checks
    assert (check.check, check.passed, check.severity, check.message) == ("not_empty", True, "fail", "rows 42")
    assert result.output == {
        "materializations": {
            "warehouse/orders": {
                "data_version": "v7",
                "metadata": {
                    "dagster/row_count": 42,
                    "source": "s3://landing/orders",
                    "dagster/column_schema": {
                        "columns": [{"name": "id", "type": "int"}, {"name": "amount", "type": "float"}]
                    },
                },
            }
        },
        "messages": [{"trace": TRACEPARENT, "retry": 0}],
    }
    assert ("log", "INFO loading 2026-01-01") in lines
    assert ("stdout", "printed as ever") in lines
    assert ("stderr", "a warning") in lines
    assert not [text for stream, text in lines if stream == "engine"]
    assert not list((tmp_path / "state" / "pipes").iterdir()), "the attempt's folder is gone"


async def test_a_rust_program_runs_unchanged(tmp_path: Path) -> None:
    """A client in another language is understood in the same way."""
    program = await asyncio.to_thread(built, HERE / "rust", "pipes-program")
    lines: Lines = []
    result = await run(tmp_path, [str(program)], {"assets": ["orders"]}, lines)

    assert result.datasets == (
        DatasetWrite(namespace="test", name="orders", task="work", at=result.datasets[0].at, rows=100, version="r1"),
    )
    (check,) = result.checks
    assert (check.check, check.passed, check.severity, check.dataset) == ("not_empty", True, "warn", "test/orders")
    assert result.output["messages"] == [{"run": "run_01"}]
    assert ("stdout", "done") in lines
    assert any(stream == "log" and text.endswith("loaded") for stream, text in lines)


async def test_an_exception_is_told_in_its_own_words(tmp_path: Path) -> None:
    """The failure names the exception and what caused it; its stack is in the log."""
    lines: Lines = []
    code = "with open_dagster_pipes():\n  try: {}['a']\n  except KeyError as e: raise ValueError('no price') from e"
    with pytest.raises(TaskFailed, match=r"^ValueError: no price; caused by KeyError: 'a'; .*exit code 1") as caught:
        await run(tmp_path, script(code), True, lines)
    assert caught.value.kind == "exit_code"
    assert any("ERROR" in text and "line 3" in text for stream, text in lines if stream == "log")


async def test_an_exception_behind_a_good_exit_still_fails(tmp_path: Path) -> None:
    """A program that tells of an exception and exits with 0 has not succeeded."""
    code = (
        "import os, contextlib\n"
        "with contextlib.suppress(ValueError):\n"
        "  with open_dagster_pipes(): raise ValueError('half done')\n"
        "os._exit(0)"
    )
    with pytest.raises(TaskFailed, match="half done") as caught:
        await run(tmp_path, script(code), True)
    assert caught.value.kind == "exception"


async def test_a_failed_check_fails_the_task(tmp_path: Path) -> None:
    """A check of severity ERROR stops the run with its reason; one of WARN is recorded alone."""
    report = "with open_dagster_pipes() as p: p.report_asset_check('filled', False, {!r}, {{'nulls': 3}})"
    with pytest.raises(TaskFailed, match="check filled of work failed: nulls 3") as caught:
        await run(tmp_path, script(report.format("ERROR")), True)
    assert (caught.value.kind, caught.value.retryable) == ("check", False)
    assert [check.passed for check in caught.value.checks] == [False]

    result = await run(tmp_path, script(report.format("WARN")), True)
    assert [(check.passed, check.severity) for check in result.checks] == [(False, "warn")]


async def test_a_killed_program_is_judged_by_its_end(tmp_path: Path) -> None:
    """A program that dies without closing fails as a crash, and the checks that it reported are kept."""
    code = "import os\np = open_dagster_pipes()\np.report_asset_check('a', True)\nos.kill(os.getpid(), 9)"
    with pytest.raises(TaskFailed, match="SIGKILL") as caught:
        await run(tmp_path, script(code), True)
    assert caught.value.kind == "crashed"
    assert [check.check for check in caught.value.checks] == ["a"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param("", "never called open_dagster_pipes()", id="never-opened"),
        pytest.param("import os\nopen_dagster_pipes()\nos._exit(0)", "without closing", id="never-closed"),
    ],
)
async def test_silence_is_told(tmp_path: Path, code: str, said: str) -> None:
    """A program that ends well without speaking succeeds, and the log says what is missing."""
    lines: Lines = []
    await run(tmp_path, script(code), True, lines)
    assert any(said in text for stream, text in lines if stream == "engine")


async def test_an_output_that_was_asked_for_stays(tmp_path: Path) -> None:
    """With `output` of its own the program's reports do not take its place."""
    code = "with open_dagster_pipes() as p: p.report_custom_message(1); print('[2]')"
    assert (await run(tmp_path, script(code), True, output="last_line_json")).output == [2]


async def test_captured_prints_arrive_once(tmp_path: Path) -> None:
    """Lines that a program sends as messages keep their stream."""
    lines: Lines = []
    code = "with open_dagster_pipes() as p: p.log_external_stream('stderr', 'one\\ntwo')"
    await run(tmp_path, script(code), True, lines)
    assert [pair for pair in lines if pair[0] == "stderr"] == [("stderr", "one"), ("stderr", "two")]


async def test_what_a_killed_service_left_is_cleared(tmp_path: Path) -> None:
    """Folders of processes that are gone are removed; those of living ones stay."""
    root = tmp_path / "state" / "pipes"
    gone, alive = root / "4194304-1", root / "1-1"
    gone.mkdir(parents=True)
    alive.mkdir()
    await run(tmp_path, script("open_dagster_pipes().close()"), True)
    assert not gone.exists()
    assert alive.exists()
