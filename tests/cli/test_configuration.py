"""check, try, kinds, schema, migrate: what needs no service."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Ask = Callable[..., Result]

GOOD = """
service: {name: demo, store: "sqlite:///demo.db"}
sensors:
  hook: {kind: webhook, path: /hooks/x, verify: {scheme: bearer, secret: "env:NOT_SET_ANYWHERE"}}
triggers:
  big:
    on: {sensor: hook, filter: {prefix: {subject: orders/}}}
    when: event.data.size > 10
    run: {pipeline: call, key: event.subject, params: {size: "${{ event.data.size }}"}}
pipelines:
  call: {tasks: {ping: {engine: http, url: "http://127.0.0.1:9/"}}}
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "tidegate.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def event(tmp_path: Path) -> Callable[[object], str]:
    def write(value: object) -> str:
        path = tmp_path / "event.json"
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return str(path)

    return write


def test_check_needs_no_secret(good: Path, bare: Ask) -> None:
    """A good configuration is exit code 0, though its secrets are not there."""
    result = bare("check", str(good))

    assert (result.exit_code, "no problem found" in result.output) == (0, True)
    assert json.loads(bare("check", str(good), "--json").output) == {"problems": []}


def test_check_names_every_problem_with_its_place(tmp_path: Path, bare: Ask) -> None:
    """All problems at once, one line each: file, line, column, path, what is wrong, the remedy; exit code 1."""
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("kind: webhook", "kind: webhok").replace("event.data.size > 10", "event.data.size >"))

    result = bare("check", str(path))

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert len(lines) >= 2
    assert all(line.startswith(f"{path}:") for line in lines)
    assert any("sensors.hook.kind" in line and "webhook" in line for line in lines)
    assert any("triggers.big.when" in line for line in lines)
    problems = json.loads(bare("check", str(path), "--json").output)["problems"]
    assert [problem["line"] for problem in problems] == [
        int(line.removeprefix(f"{path}:").split(":")[0]) for line in lines
    ]


def test_check_of_nothing(tmp_path: Path, bare: Ask) -> None:
    """A file that is not there is a problem; no file is a usage error."""
    assert bare("check", str(tmp_path / "nothing.yaml")).exit_code == 1
    assert bare("check").exit_code == 2


def test_try_decides_offline(good: Path, event: Callable[[object], str], bare: Ask) -> None:
    """A sample event is judged by the real rules, with the run that would be asked for."""
    path = event({"type": "x", "subject": "orders/1", "data": {"size": 11}})
    result = bare("try", str(good), "--sensor", "hook", "--event", path)
    data = json.loads(bare("try", str(good), "--sensor", "hook", "--event", path, "--json").output)

    assert result.exit_code == 0
    assert "✔ fired" in result.output
    assert "orders/1" in result.output
    assert [verdict["outcome"] for verdict in data["verdicts"]] == ["fired"]
    assert data["verdicts"][0]["runs"][0]["params"] == {"size": 11}


@pytest.mark.parametrize(
    ("value", "outcome", "code"),
    [
        pytest.param({"type": "x", "subject": "orders/1", "data": {"size": 1}}, "filtered", 0, id="too small"),
        pytest.param({"type": "x", "subject": "other", "data": {"size": 11}}, "filtered", 0, id="other subject"),
        pytest.param({"type": "x", "subject": "orders/1", "data": {}}, "error", 1, id="a missing field"),
        pytest.param({"type": "x", "subject": "orders/\0", "data": {"size": 11}}, "error", 1, id="NUL"),
        pytest.param(b"\xff\xfe", "filtered", 0, id="no JSON"),
    ],
)
def test_try_tells_why_not(
    value: object, outcome: str, code: int, good: Path, event: Callable[[object], str], bare: Ask
) -> None:
    """What does not fire says why; a rule that fails on the event is exit code 1."""
    result = bare("try", str(good), "--sensor", "hook", "--event", event(value), "--json")

    assert [verdict["outcome"] for verdict in json.loads(result.output)["verdicts"]] == [outcome]
    assert result.exit_code == code


def test_try_wants_a_known_sensor_and_a_file(good: Path, event: Callable[[object], str], bare: Ask) -> None:
    """Unknown sensors and unreadable files are usage errors with the nearest name."""
    unknown = bare("try", str(good), "--sensor", "hok", "--event", event({}))

    assert (unknown.exit_code, "`hook`" in unknown.stderr) == (2, True)
    assert bare("try", str(good), "--sensor", "hook", "--event", "/nothing/here").exit_code == 2


def test_kinds_lists_everything(bare: Ask) -> None:
    """Every kind of sensor, engine, check and verifier is listed with its help."""
    items = json.loads(bare("kinds", "--json").output)["items"]

    assert {item["what"] for item in items} == {"sensor", "engine", "check", "verifier"}
    assert {"webhook", "files", "python", "command", "http", "row_count", "github"} <= {item["name"] for item in items}
    assert all(item["help"] for item in items)


@pytest.mark.parametrize("name", ["webhook", "files", "python", "command", "http", "row_count", "hmac"])
def test_each_kind_can_be_shown(name: str, bare: Ask) -> None:
    """One kind is shown with its options and, for a sensor, the event it emits."""
    result = bare("kinds", name)

    assert result.exit_code == 0
    assert result.output.startswith(name)
    if name in ("webhook", "files"):
        assert "sample" in result.output
        assert "emits" in result.output


def test_an_unknown_kind_has_a_nearest_name(bare: Ask) -> None:
    """A misspelt kind is a usage error that names the right one."""
    result = bare("kinds", "webhok")

    assert (result.exit_code, "`webhook`" in result.stderr) == (2, True)


def test_schema_is_json_schema(bare: Ask) -> None:
    """The schema is JSON of the dialect it names."""
    schema = json.loads(bare("schema").output)

    assert schema["$schema"].endswith("2020-12/schema")
    assert "sensors" in schema["properties"]


def test_migrate_makes_the_store(tmp_path: Path, bare: Ask) -> None:
    """A new store is brought to this version; doing it again changes nothing."""
    store = f"sqlite:///{tmp_path}/m.db"

    first, second = bare("migrate", "--store", store), bare("migrate", "--store", store)

    assert (first.exit_code, first.output) == (0, second.output)
    assert "version" in first.output


def test_serve_without_a_configuration(bare: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving nothing is a usage error."""
    monkeypatch.chdir(tmp_path)

    assert bare("serve").exit_code == 2
