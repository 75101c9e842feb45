"""Python functions as tasks in YAML, and where pipelines run: what is wrong is said at check time, at its place."""

from pathlib import Path
from typing import Any

from config.check import check
from config.load import load_config
from pipelines.errors import DefinitionError
from pipelines.signatures import Reference, Signature, read_signatures

JOBS = """
from pipelines.authoring import Context, task

def clean(path: str, sync, limit=5, *, ctx: Context): ...
def free(**params): ...
def report(context, day): ...
number = 3

@task
def flow(n: int) -> int: return n
"""


def problems(folder: Path, tasks: str, head: str = "") -> list[str]:
    (folder / "jobs.py").write_text(JOBS)
    path = folder / "tidegate.yaml"
    path.write_text(f"pipelines:\n  p:\n    params: {{path: {{type: str}}}}\n{head}    tasks:\n{tasks}")
    return [str(problem).removeprefix(f"{folder}/") for problem in check([path], environ={})]


def test_functions_that_fit_are_no_problem(tmp_path: Path) -> None:
    """Arguments from `args`, needs and parameters; the context; defaults; `**params`; functions named by templates."""
    tasks = """
      sync: {engine: python, function: "jobs:free", args: {anything: 1}}
      clean: {engine: python, function: "jobs:clean", needs: [sync]}
      report: {engine: dask, function: "jobs:report", args: {day: "2026-01-01"}}
      other: {engine: python, function: "${{ params.path }}:f"}
"""
    assert problems(tmp_path, tasks) == []


def test_a_function_that_does_not_fit_is_told_at_its_place(tmp_path: Path) -> None:
    """Line, path, what is wrong and the nearest name, before anything runs; one import serves all."""
    tasks = """
      missing: {engine: python, function: "jobs:report"}
      unknown: {engine: python, function: "jobs:clean", args: {sync: 1, limt: 2}}
      no-function: {engine: python, function: "jobs:claen"}
      no-call: {engine: python, function: "jobs:number"}
      no-module: {engine: dask, function: "jobz:f"}
"""
    missing, unknown, no_function, no_call, no_module = problems(tmp_path, tasks)

    assert missing.startswith("tidegate.yaml:6:43 pipelines.p.tasks.missing.function: ")
    assert "jobs:report needs 'day', which nobody gives" in missing
    assert "pipelines.p.tasks.unknown.args.limt: jobs:clean takes no 'limt', did you mean 'limit'?" in unknown
    assert "pipelines.p.tasks.no-function.function: jobs has no 'claen'" in no_function
    assert "not a function" in no_call
    assert "'jobz:f' cannot be imported" in no_module


def test_signatures_come_without_importing_here(tmp_path: Path) -> None:
    """A child imports; one that dies says how."""
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "dies.py").write_text("import os\nos._exit(9)\n")
    good, bad = Reference("jobs:clean"), Reference("dies:f")

    assert read_signatures([good], tmp_path) == {
        good: Signature(("path", "sync", "limit", "ctx"), ("path", "sync"), any=False)
    }
    found: Any = read_signatures([bad], tmp_path)[bad]
    assert isinstance(found, DefinitionError)
    assert "exit code 9" in str(found)


def test_one_line_places_a_pipeline(tmp_path: Path) -> None:
    """`on` moves the Python tasks of a pipeline, from Python or YAML, and no others."""
    (tmp_path / "jobs.py").write_text(JOBS)
    path = tmp_path / "tidegate.yaml"
    path.write_text("""
connections: {big: {kind: dask, scheduler: "tcp://big:8786"}}
pipelines:
  a: {python: "jobs:flow", on: dask}
  b: {python: "jobs:flow", on: "dask:big"}
  c: {python: "jobs:flow", on: python}
  d:
    on: dask
    tasks:
      flow: {engine: python, function: "jobs:free"}
      two: {engine: command, argv: [echo]}
""")
    config = load_config([path], environ={})
    placed = {name: pipeline.task("flow") for name, pipeline in config.pipelines.items()}

    assert {name: task.engine for name, task in placed.items()} == {
        "a": "dask",
        "b": "dask",
        "c": "python",
        "d": "dask",
    }
    assert placed["b"].options["connection"] == "big"
    assert config.pipelines["d"].task("two").engine == "command"


def test_a_place_that_is_none_is_told(tmp_path: Path) -> None:
    """The problem says what would be one."""
    (found,) = problems(tmp_path, '\n      t: {engine: python, function: "jobs:free"}\n', head="    on: moon\n")

    assert "pipelines.p.on" in found
    assert "'moon' is no place to run Python tasks" in found
