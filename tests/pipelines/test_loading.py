import sys
from pathlib import Path

import pytest

from pipelines.describe import describe
from pipelines.errors import DefinitionError
from pipelines.loading import load_pipeline, load_pipelines
from tests.pipelines.authored import shop

ROOT = Path(__file__).resolve().parents[2]

GOOD = """
print("a print at import does no harm")
from pipelines.authoring import task

@task
def first(n: int) -> int: return n

@task
def last(first: int) -> int: return first

def undecorated(): ...
number = 3
"""


def test_a_pipeline_is_loaded_without_importing_it_here(tmp_path: Path) -> None:
    """The definition comes back whole; this process has not imported the module."""
    (tmp_path / "my_flow.py").write_text(GOOD)
    definition = load_pipeline("my_flow:last", tmp_path)

    assert [one.name for one in definition.tasks] == ["first", "last"]
    assert definition.task("last").options["function"] == "my_flow:last"
    assert definition.task("last").options["sys_path"] == [str(tmp_path.resolve())]
    assert "my_flow" not in sys.modules


def test_it_is_what_describing_gives() -> None:
    """Loading and describing say the same of the same pipeline."""
    assert load_pipeline("tests.pipelines.authored.shop:shop", ROOT) == describe(shop.shop, sys_path=[str(ROOT)])


def test_each_mistake_is_told_with_its_remedy_and_spoils_no_other(tmp_path: Path) -> None:
    """Several references are loaded by one process; each has its own answer."""
    (tmp_path / "my_flow.py").write_text(GOOD)
    (tmp_path / "typo.py").write_text("import no_such_library\n")
    (tmp_path / "broken.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "quits.py").write_text("import sys\nsys.exit(3)\n")
    expected = {
        "my_flow:undecorated": ("not a task", "@task"),
        "my_flow:number": ("is no task and no pipeline but int", "first"),
        "my_flow:lst": ("has no 'lst'", "'last'"),
        "my_flow": ("names no attribute", "package.module:name"),
        "nowhere:x": ("No module named 'nowhere'", str(tmp_path)),
        "typo:x": ("typo.py line 1", "install what provides 'no_such_library'"),
        "broken:x": ("broken.py line 2", ""),
        "quits:x": ("SystemExit", ""),
    }
    found = load_pipelines([*expected, "my_flow:last"], tmp_path)

    for reference, (said, hint) in expected.items():
        error = found[reference]
        assert isinstance(error, DefinitionError)
        assert said in str(error)
        assert hint in error.hint
    assert not isinstance(found["my_flow:last"], DefinitionError)
    with pytest.raises(DefinitionError, match="has no 'lst'"):
        load_pipeline("my_flow:lst", tmp_path)


def test_a_module_that_dies_or_hangs_at_import_is_told(tmp_path: Path) -> None:
    """Neither a crash of the process nor an endless import takes the service with it."""
    (tmp_path / "dies.py").write_text("import os\nos._exit(9)\n")
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(600)\n")

    assert "exit code 9" in str(load_pipelines(["dies:x"], tmp_path)["dies:x"])
    assert "took longer than 0.5 s" in str(load_pipelines(["hangs:x"], tmp_path, within=0.5)["hangs:x"])
    assert load_pipelines([], tmp_path) == {}
