"""`tidegate try` with several events, samples and time; `kinds NAME --sample`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Ask = Callable[..., Result]

RULES = """
sensors:
  crm: {kind: webhook, path: /hooks/crm, verify: {scheme: bearer, secret: "env:NOT_SET_ANYWHERE"}}
  fx: {kind: webhook, path: /hooks/fx, verify: {scheme: bearer, secret: "env:NOT_SET_ANYWHERE"}}
triggers:
  both:
    join:
      of:
        crm: {sensor: crm, by: event.data.day}
        fx: {sensor: fx, by: event.data.day}
      until: "06:00"
    run: {pipeline: call, key: key}
    overdue: {run: {pipeline: call, params: {missing: "${{ missing }}"}}}
  big: {on: {sensor: crm}, when: event.data.n > 10, run: {pipeline: call, key: event.data.day}}
pipelines:
  call: {engine: command, argv: [echo]}
"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "tidegate.yaml"
    path.write_text(RULES)
    return str(path)


def written(tmp_path: Path, *events: dict[str, Any], name: str = "events.jsonl") -> str:
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(event) for event in events))
    return str(path)


def crm(n: int = 1, **more: Any) -> dict[str, Any]:
    return {"type": "x", "sensor": "crm", "data": {"day": "d1", "n": n}, **more}


def fx(**more: Any) -> dict[str, Any]:
    return {"type": "x", "sensor": "fx", "data": {"day": "d1"}, **more}


def outcomes(data: Any) -> list[list[tuple[str, str]]]:
    return [[(one["trigger"], one["outcome"]) for one in step["verdicts"]] for step in data["steps"]]


def test_a_join_over_several_events(rules: str, tmp_path: Path, bare: Ask) -> None:
    """What one event leaves behind the next one finds: a join that waits, a key that was used."""
    file = written(tmp_path, crm(11), crm(12, at="+5m"), fx(at="+1h"))
    words = ("try", rules, "--event", file, "--now", "2026-01-01T01:00Z")
    data = json.loads(bare(*words, "--json").output)
    shown = bare(*words)

    assert outcomes(data) == [
        [("both", "waiting"), ("big", "fired")],
        [("both", "duplicate"), ("big", "duplicate")],
        [("both", "fired")],
    ]
    assert [step["at"] for step in data["steps"]] == [
        "2026-01-01T01:00:00Z",
        "2026-01-01T01:05:00Z",
        "2026-01-01T02:05:00Z",
    ]
    assert data["steps"][2]["verdicts"][0]["runs"] == [
        {"pipeline": "call", "item": None, "params": {}, "key": "d1", "partition": None, "lane": None}
    ]
    assert "missing: fx" in data["steps"][0]["verdicts"][0]["reason"]
    assert "2026-01-01T02:05:00Z fx x" in shown.output
    assert shown.output.count("✔ fired") == 2


def test_time_passes_after_the_last_event(rules: str, tmp_path: Path, bare: Ask) -> None:
    """A key that is overdue is told at its time, with what is missing and what it starts."""
    file = written(tmp_path, crm())
    words = ("try", rules, "--event", file, "--now", "2026-01-01T01:00Z", "--until", "+6h")
    data = json.loads(bare(*words, "--json").output)
    shown = bare(*words)

    assert outcomes(data) == [[("both", "waiting"), ("big", "filtered")], [("both", "overdue"), ("both", "fired")]]
    last = data["steps"][1]
    assert (last["event"], last["at"]) == (None, "2026-01-01T06:00:00Z")
    assert last["verdicts"][0]["missing"] == ["fx"]
    assert last["verdicts"][1]["runs"][0]["params"] == {"missing": ["fx"]}
    assert "time passes" in shown.output


def test_the_failing_clause_says_what_it_wanted_and_what_it_had(rules: str, tmp_path: Path, bare: Ask) -> None:
    """Also when it comes after other events."""
    file = written(tmp_path, crm(11), crm(3))
    data = json.loads(bare("try", rules, "--event", file, "--json").output)
    (clause,) = [one for one in data["steps"][1]["verdicts"][1]["clauses"] if one["passed"] is False]

    assert (clause["path"], clause["expected"]) == ("when", "true")
    assert clause["actual"] == 'false, with event.data = {"day":"d1","n":3}'


def test_a_file_for_each_sensor(rules: str, tmp_path: Path, bare: Ask) -> None:
    """Only content, and the sensor before it; the events come in the order of the files."""
    for name in ("crm", "fx"):
        (tmp_path / f"{name}.json").write_text('{"day": "d1", "n": 20}')
    files = [f"{name}={tmp_path / name}.json" for name in ("crm", "fx")]
    data = json.loads(bare("try", rules, "--event", files[0], "--event", files[1], "--json").output)

    assert outcomes(data) == [[("both", "waiting"), ("big", "fired")], [("both", "fired")]]


def test_the_sample_of_a_kind(rules: str, bare: Ask) -> None:
    """No file is needed: the sensor's kind has a sample, and `kinds` prints it."""
    data = json.loads(bare("try", rules, "--sensor", "crm", "--sample", "--json").output)
    sample = json.loads(bare("kinds", "webhook", "--sample").output)

    assert data["steps"][0]["event"]["data"] == sample["data"]
    assert data["steps"][0]["event"]["type"] == sample["type"]
    assert [one["trigger"] for one in data["verdicts"]] == ["both", "big"]


def test_a_sample_can_be_tried(rules: str, tmp_path: Path, bare: Ask) -> None:
    """What `kinds --sample` prints is what `try --event` takes."""
    file = tmp_path / "sample.json"
    file.write_text(bare("kinds", "webhook", "--sample").output)
    tried = json.loads(bare("try", rules, "--sensor", "crm", "--event", str(file), "--json").output)
    sampled = json.loads(bare("try", rules, "--sensor", "crm", "--sample", "--json").output)

    assert outcomes(tried) == outcomes(sampled)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a file by --event, or say --sample"),
        (["--sample"], "--sample needs --sensor"),
        (["--sample", "--sensor", "crmm"], "there is no sensor crmm; did you mean `crm`?"),
        (["--sample", "--sensor", "crm", "--now", "soon"], "soon is no moment"),
        (["--sample", "--sensor", "crm", "--until", "+soon"], "write +5m"),
    ],
)
def test_what_cannot_be_tried(words: list[str], sentence: str, rules: str, bare: Ask) -> None:
    """Usage errors name the remedy."""
    result = bare("try", rules, *words)

    assert (result.exit_code, sentence in result.stderr) == (2, True), result.stderr


def test_an_event_of_an_unknown_sensor(rules: str, tmp_path: Path, bare: Ask) -> None:
    """In a file of several, each names a sensor that is configured."""
    result = bare("try", rules, "--event", written(tmp_path, crm(), crm(sensor="cmr")))

    assert (result.exit_code, "there is no sensor cmr" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["python", "--sample"], "python is no sensor kind"), (["--sample"], "--sample goes with one kind")],
)
def test_only_sensor_kinds_have_samples(words: list[str], sentence: str, bare: Ask) -> None:
    """Engines and checks emit nothing."""
    result = bare("kinds", *words)

    assert (result.exit_code, sentence in result.stderr) == (2, True)
