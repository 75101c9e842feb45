"""Broken configurations, one file each: `# expect: LINE:COLUMN path | part of the message | part of the remedy`."""

import re
from pathlib import Path

import pytest

from config.check import check
from config.problems import Problem
from tests.config.kinds import no_pipelines, real_kinds

FOLDER = Path(__file__).parent / "broken"
_EXPECT = re.compile(r"# expect: (\d+):(\d+) ?(\S*) \| (.*?) \|(.*)")


def _expected(text: str) -> list[tuple[int, int, str, str, str]]:
    found = _EXPECT.findall(text)
    assert len(found) == text.count("# expect:")
    return [(int(line), int(column), path, what, remedy.strip()) for line, column, path, what, remedy in found]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_problem_is_named_at_its_place(file: Path) -> None:
    """Each problem of a broken file is reported once: line, column, path, what is wrong and what would be right."""
    text = file.read_text()

    problems = check([file], environ={}, resolve_secrets="# strict" in text, load=no_pipelines, **real_kinds())

    expected = _expected(text)
    assert [(p.line, p.column, p.path) for p in problems] == [item[:3] for item in expected], _shown(problems)
    for problem, (_, _, _, what, remedy) in zip(problems, expected, strict=True):
        assert what in problem.message, _shown(problems)
        assert remedy in problem.remedy, _shown(problems)


def test_there_are_enough_broken_files() -> None:
    """At least twenty kinds of mistakes are covered, and each file says what it expects."""
    files = sorted(FOLDER.glob("*.yaml"))

    assert len(files) >= 20
    assert all(_expected(file.read_text()) for file in files)


def test_no_secret_is_ever_shown() -> None:
    """A secret that was written out does not appear in what is said about it."""
    for name in ("08-secret-in-clear.yaml", "26-password-in-clear.yaml", "38-alerts.yaml"):
        problems = check([FOLDER / name], environ={}, load=no_pipelines, **real_kinds())

        assert problems
        assert "hunter2" not in _shown(problems)


def test_all_files_are_checked_together() -> None:
    """Problems of several files come together, in the order of the files."""
    files = [FOLDER / "10-bad-duration.yaml", FOLDER / "21-bad-store.yaml"]

    problems = check(files, environ={}, load=no_pipelines, **real_kinds())

    assert [problem.file for problem in problems] == [str(file) for file in files]


def _shown(problems: list[Problem]) -> str:
    return "\n".join(str(problem) for problem in problems)
