"""The configuration that `make run` serves, and a configuration of everything that this version offers."""

from pathlib import Path

import pytest

import config
from config.check import check
from config.load import load_config
from pipelines.pipeline import Param
from sensors.units import StartAt
from tests.config.kinds import no_pipelines, pipeline_of, real_kinds

QUICKSTART = Path(config.__file__ or "").parent / "quickstart.yaml"
VALID = sorted((Path(__file__).parent / "valid").glob("*.yaml"))


def test_the_quickstart_runs_without_any_environment() -> None:
    """No variable is needed; paths start at the folder above, wherever the service is started."""
    loaded = load_config([QUICKSTART], environ={}, load=pipeline_of("clean"), **real_kinds())

    root = QUICKSTART.parent.parent
    assert loaded.base == root
    assert loaded.store == f"sqlite:///{root}/.tidegate/tidegate.db"
    assert {name: entry.kind.name for name, entry in loaded.sensors.items()} == {"landing": "files", "hooks": "webhook"}
    landing = dict(loaded.sensors["landing"].options)
    assert (landing["path"], landing["pattern"], landing["settle"]) == ("./inbox", "{name}.csv", 0.5)
    assert landing["start"] == StartAt("beginning")
    hooks = loaded.sensors["hooks"].options.model_dump()
    assert (hooks["path"], hooks["verify"]["scheme"]) == ("/hooks/orders", "hmac")
    assert hooks["verify"]["secret"].get_secret_value() == "quickstart-secret"
    assert {source.sensor for trigger in loaded.triggers.values() for source in trigger.on} == {
        "landing",
        "hooks",
        "tidegate",
    }
    assert {run.pipeline for trigger in loaded.triggers.values() for run in trigger.runs} == set(loaded.pipelines)


@pytest.mark.parametrize("file", VALID, ids=lambda path: path.stem)
def test_valid_files_have_no_problem(file: Path) -> None:
    """What the interface promises, as far as it exists now, is accepted, with no secret at hand."""
    load = pipeline_of("clean", params={"path": Param(type="str"), "day": Param(type="str")})

    assert [str(problem) for problem in check([file], environ={}, load=load, **real_kinds())] == []


def test_there_are_valid_files() -> None:
    """The parametrized test above has something to do."""
    assert VALID


def test_a_python_pipeline_that_is_not_there(tmp_path: Path) -> None:
    """The check tells of Python that cannot be loaded without stopping at it."""
    file = tmp_path / "t.yaml"
    file.write_text('pipelines: {a: {python: "x:y"}, b: {python: "x:y"}}')

    problems = check([file], environ={}, load=no_pipelines, **real_kinds())

    assert [problem.path for problem in problems] == ["pipelines.a.python", "pipelines.b.python"]
