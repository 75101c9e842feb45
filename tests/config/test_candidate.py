"""Rules to be tried: only triggers are read, by what is in force, and nothing that a text names is followed."""

from pathlib import Path

import pytest

from config.candidate import read_candidate
from config.load import load_config
from config.model import ServiceConfig
from config.problems import ConfigProblems

WHOLE = """
service: {name: demo, plugins: [./nothing.py]}
sensors:
  hook: {kind: webhook, path: /hooks/x, verify: {scheme: bearer, secret: "env:NOT_SET"}}
triggers:
  big:
    on: {sensor: hook}
    when: event.data.size > 10
    run: {pipeline: call, params: {where: "${env:PLACE}"}}
  nightly: {on: {cron: "0 6 * * *"}, run: {pipeline: call}}
pipelines:
  call: {engine: command, argv: [echo]}
"""


@pytest.fixture
def in_force(tmp_path: Path) -> ServiceConfig:
    path = tmp_path / "tidegate.yaml"
    path.write_text(WHOLE.replace(", plugins: [./nothing.py]", ""))
    return load_config([path], environ={"PLACE": "here"}, resolve_secrets=False)


def test_what_stands_as_it_does_in_force_is_the_same(in_force: ServiceConfig) -> None:
    """References and all, and calendars: no plug-in is loaded, and no other section matters."""
    assert read_candidate([("new", WHOLE.encode())], in_force) == in_force.triggers


def test_a_changed_trigger_listens_to_the_sensors_in_force(in_force: ServiceConfig) -> None:
    """Its version is that which it will have when it is in force."""
    text = """
triggers:
  big: {on: {sensor: hook}, when: event.data.size > 5, run: {pipeline: call}}
  t: {on: {cron: "0 7 * * *"}, run: {pipeline: call}}
"""
    found = read_candidate([("new", text.encode())], in_force)

    assert list(found) == ["big", "t"]
    assert found["big"].when == "event.data.size > 5"
    assert found["t"].on[0].sensor == "cron:t"
    assert found["big"].version != in_force.triggers["big"].version


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            WHOLE.replace("> 10", "> 5"),
            "new:9:43 triggers.big.run.params.where: a reference in a rule that is not in force is not followed here",
        ),
        ("triggers: {t: {on: {sensor: hok}, run: {pipeline: call}}}", "did you mean `hook`?"),
        ("triggers: {t: {on: {sensor: hook}, run: {pipeline: cal}}}", "did you mean `call`?"),
        ("triggers: {t: {on: {sensor: hook}, when: event.dta, run: {pipeline: call}}}", "triggers.t.when"),
        ("", "`triggers` is missing"),
        ("triggers: 3", "is not a map"),
        ("triggers: {a", "new:1"),
    ],
)
def test_problems_have_their_place(text: str, expected: str, in_force: ServiceConfig) -> None:
    """Every problem is told as those of a configuration are."""
    with pytest.raises(ConfigProblems) as found:
        read_candidate([("new", text.encode())], in_force)
    assert expected in str(found.value)


def test_files_are_one_layer(in_force: ServiceConfig) -> None:
    """A trigger that two files hold is told."""
    one = b"triggers: {t: {on: {sensor: hook}, run: {pipeline: call}}}"
    with pytest.raises(ConfigProblems, match="b:1"):
        read_candidate([("a", one), ("b", one)], in_force)
