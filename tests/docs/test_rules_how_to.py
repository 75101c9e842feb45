"""What the page about trying rules shows is true: its tests pass, its events do what it says, its commands run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.docs.blocks import blocks

PAGE = "try-and-backtest-rules.md"


def shown(language: str, mark: str = "") -> str:
    return next(one.text for one in blocks(language) if one.file.name == PAGE and one.mark == mark)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tidegate.yaml").write_text(shown("yaml"))
    (tmp_path / "events.jsonl").write_text(shown("json"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run() -> Callable[..., Result]:
    from tidegate.cli.main import app

    return lambda *words: CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_the_tests_of_the_page_pass(folder: Path) -> None:
    """Every test that the page shows runs, and holds."""
    names: dict[str, Any] = {}
    exec(compile(shown("python", "rules-test"), PAGE, "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    for test in tests:
        test()

    assert len(tests) == 3


def test_the_events_of_the_page_fire_the_join(folder: Path, run: Callable[..., Result]) -> None:
    """Two events, twenty minutes apart: the first waits, the second fires."""
    result = run("try", "tidegate.yaml", "--event", "events.jsonl", "--json")
    steps = json.loads(result.output)["steps"]

    assert [step["at"] for step in steps] == ["2026-03-02T01:00:00Z", "2026-03-02T01:20:00Z"]
    assert [[one["outcome"] for one in step["verdicts"] if one["trigger"] == "both"] for step in steps] == [
        ["waiting"],
        ["fired"],
    ]


def test_the_commands_for_samples_run(folder: Path, run: Callable[..., Result]) -> None:
    """A kind's sample can be printed, and tried, alone or as the content of a sensor's event."""
    (folder / "event.json").write_text(run("kinds", "webhook", "--sample").output)

    for words in (
        ["--sensor", "crm", "--sample"],
        ["--sensor", "crm", "--event", "event.json"],
        ["--event", "crm=event.json", "--now", "2026-03-02T01:00Z", "--until", "+6h"],
    ):
        result = run("try", "tidegate.yaml", *words)
        assert "both" in result.output, result.output
