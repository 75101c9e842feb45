"""A run keeps the code that it began with, whatever happens to the files, the workers and the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.python import KIND
from pipelines.errors import TaskFailed
from pipelines.ports import Engine, TaskResult
from tests.support.engine_contexts import make_context, make_settings

ONE = """
from helper import number


def answer():
    return number() + 1


def late():
    import lazy

    return lazy.N
"""


@asynccontextmanager
async def opened(folder: Path, workers: int = 1) -> AsyncIterator[Engine]:
    engine = KIND.build(make_settings(folder, workers=workers))
    try:
        yield engine
    finally:
        await engine.close()


async def answer(engine: Engine, run: str, name: str = "answer", **more: Any) -> TaskResult:
    context = make_context("python", {"function": f"job:{name}"}, run=run, **more)
    result = await engine.poll(context, await engine.start(context))
    assert result is not None
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(ONE)
    (tmp_path / "helper.py").write_text("def number():\n    return 1\n")
    return tmp_path


def change(folder: Path) -> None:
    """Change a module that the task's module imports."""
    (folder / "helper.py").write_text("def number():\n    return 1000\n")


async def test_a_run_keeps_the_code_that_it_began_with(folder: Path) -> None:
    """New runs run the new code, runs under way the old one, turn about, with one worker."""
    async with opened(folder) as engine:
        assert (await answer(engine, "run_old")).output == 2
        change(folder)
        got = [(await answer(engine, run)).output for run in ("run_new", "run_old", "run_new", "run_old")]

    assert got == [1001, 2, 1001, 2]


async def test_a_run_keeps_its_code_over_a_restart_of_the_service(folder: Path) -> None:
    """What the run began with is kept on disk: a new process runs it as well, even when the file is gone."""
    async with opened(folder) as engine:
        assert (await answer(engine, "run_old")).output == 2
    change(folder)
    (folder / "job.py").unlink()
    (folder / "job.py").write_text("raise RuntimeError('broken meanwhile')\n")
    async with opened(folder) as engine:
        assert (await answer(engine, "run_old")).output == 2
        with pytest.raises(TaskFailed, match="broken meanwhile"):
            await answer(engine, "run_new")


async def test_what_is_imported_late_is_bound_late(folder: Path) -> None:
    """A module that is imported within the function joins the run's version when it is first imported."""
    (folder / "lazy.py").write_text("N = 1\n")
    async with opened(folder) as engine:
        assert (await answer(engine, "run_old")).output == 2
        (folder / "lazy.py").write_text("N = 22\n")
        assert (await answer(engine, "run_old", "late")).output == 22
        (folder / "lazy.py").write_text("N = 333\n")
        assert (await answer(engine, "run_old", "late")).output == 22
        assert (await answer(engine, "run_new", "late")).output == 333


async def test_a_file_written_anew_as_it_was_replaces_no_worker(folder: Path) -> None:
    """A touch or a checkout of the same content is no change of code."""
    (folder / "job.py").write_text("import os\n\ndef answer():\n    return os.getpid()\n")
    async with opened(folder) as engine:
        first = (await answer(engine, "run_1")).output
        (folder / "job.py").write_text((folder / "job.py").read_text())
        assert (await answer(engine, "run_2")).output == first


async def test_a_version_that_is_not_kept_any_more_is_a_clear_failure(folder: Path) -> None:
    """The run says which file has changed and what to do; nothing half-old runs."""
    async with opened(folder) as engine:
        await answer(engine, "run_old")
    change(folder)
    for kept in (folder / "state" / "code").iterdir():
        kept.unlink()
    async with opened(folder) as engine:
        with pytest.raises(TaskFailed, match=r"helper\.py has changed since this run began.*resume the run") as caught:
            await answer(engine, "run_old")

    assert (caught.value.kind, caught.value.retryable) == ("code_gone", False)


async def test_tracebacks_show_the_code_that_ran(folder: Path) -> None:
    """Lines of the old version are shown for an old run, not what stands there now."""
    (folder / "helper.py").write_text("def number():\n    raise ValueError('old line')\n")
    lines: list[str] = []
    async with opened(folder) as engine:
        with pytest.raises(TaskFailed):
            await answer(engine, "run_old")
        (folder / "helper.py").write_text("# new\n# new\ndef number():\n    return 5\n")
        with pytest.raises(TaskFailed):
            await answer(engine, "run_old", log=lambda _, text: lines.append(text))

    assert any("raise ValueError('old line')" in line for line in lines)
