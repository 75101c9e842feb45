"""Reload: a valid configuration swaps in without losing an event, an invalid one is refused as a whole."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.load import load_config
from config.model import ServiceConfig
from tests.support.running import Running, load, running, until
from tidegate.reload import watch_config

TEXT = """
service: {name: svc, store: "sqlite:///store.db", dispatch: {poll: 100ms}}
sensors:
  hook: {kind: webhook, path: /hooks/in, verify: none}
  other: {kind: webhook, path: /hooks/other, verify: none}
triggers:
  all: {on: {sensor: hook}, run: {pipeline: p}}
pipelines:
  p: {engine: command, argv: [sh, -c, "echo one >> ran"], cwd: "."}
"""
CHANGED = TEXT.replace("echo one", "echo two").replace(
    "triggers:", "triggers:\n  more: {on: {sensor: other}, run: {pipeline: p}}"
)


@asynccontextmanager
async def _watched(folder: Path, gate: Running) -> AsyncIterator[Path]:
    """Watch the configuration's file as `tidegate serve` does; yields the file."""
    path = folder / "tidegate.yaml"

    def read() -> ServiceConfig:
        return load_config([path], environ={})

    task = asyncio.create_task(watch_config([path], read, gate.service.reload))
    try:
        yield path
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _write_until(path: Path, text: str, condition: Any) -> None:
    """Write again until it is seen: the watcher may not have started to look when the first write comes."""
    async with asyncio.timeout(15):
        n = 0
        while not condition():
            n += 1
            await asyncio.to_thread(path.write_text, f"{text}\n# {n}\n")
            for _ in range(60):
                if condition():
                    return
                await asyncio.sleep(0.01)


async def test_no_accepted_event_is_lost_by_a_swap(tmp_path: Path) -> None:
    """While webhooks flow, configurations swap: every 202 is stored once and has its run, whichever rules judged it."""
    one = await load(tmp_path, TEXT, store="memory:")
    two = await load(tmp_path, CHANGED, store="memory:")
    async with running(one) as gate:
        answers = []
        stop = False

        async def flow() -> None:
            while not stop:
                answers.append(await gate.post("/hooks/in"))

        flows = [asyncio.create_task(flow()) for _ in range(4)]
        for n in range(10):
            await gate.service.reload(two if n % 2 == 0 else one)
            seen = len(answers)
            await until(lambda seen=seen: len(answers) > seen + 3)  # type: ignore[misc]
        stop = True
        await asyncio.gather(*flows)
        events = await gate.events(sensor="hook")
        decisions = await gate.decisions()

    assert {answer.status for answer in answers} == {202}
    assert {row["uid"] for row in events} == {answer.json["events"][0]["event"] for answer in answers}
    assert len(events) == len(answers)
    assert [row["outcome"] for row in decisions] == ["fired"] * min(1_000, len(answers))


async def test_a_valid_change_of_the_file_is_in_force(tmp_path: Path) -> None:
    """Saving a valid file puts it in force: its triggers judge the next event."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate, _watched(tmp_path, gate) as path:
        await _write_until(path, CHANGED, lambda: "more" in gate.service.config.triggers)
        await gate.post("/hooks/other")
        (run,) = await gate.finished(1)

    assert run["trigger"] == "more"
    assert (tmp_path / "ran").read_text() == "two\n"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("sensors: [", id="no YAML"),
        pytest.param(TEXT.replace("pipeline: p}", "pipeline: none}"), id="an unknown pipeline"),
        pytest.param(TEXT.replace("run: {", "when: event.(, run: {"), id="no expression"),
        pytest.param("", id="nothing at all"),
    ],
)
async def test_an_invalid_change_is_refused_and_reported(
    tmp_path: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is not valid changes nothing but the log; the next valid one is taken."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate, _watched(tmp_path, gate) as path:
        before = gate.service.config
        with caplog.at_level(logging.INFO, "tidegate.reload"):
            await _write_until(path, bad, lambda: "the old one runs on" in caplog.text)
            still = gate.service.config
            works = (await gate.post()).status
            await _write_until(path, CHANGED, lambda: "more" in gate.service.config.triggers)

    assert still is before
    assert works == 202


async def test_a_sensor_that_cannot_be_built_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a valid configuration fails when its sensors are built, rules, config and sensors stay the old ones."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        before = (gate.service.config, gate.service.rules.current, dict(gate.webhooks.endpoints))
        changed = await load(tmp_path, CHANGED.replace("/hooks/other", "/hooks/new"), store="memory:")

        def broken(*_: Any) -> Any:
            raise RuntimeError("cannot be built")

        monkeypatch.setattr(gate.service._parts.fleet, "_build", broken)
        with pytest.raises(RuntimeError, match="cannot be built"):
            await gate.service.reload(changed)
        after = (gate.service.config, gate.service.rules.current, dict(gate.webhooks.endpoints))

    assert after == before


async def test_runs_keep_the_definition_they_started_with(tmp_path: Path) -> None:
    """A run that waits while its pipeline is changed does what the pipeline said when it was started."""
    limited = TEXT.replace("  p: {", "  p: {concurrency: 1, ").replace(
        "echo one", "while [ ! -e go ]; do sleep 0.01; done; echo one"
    )
    async with running(await load(tmp_path, limited, store="memory:")) as gate:
        await gate.post()
        await gate.post()
        await gate.until_runs(lambda rows: [row["state"] for row in rows] == ["running", "queued"])
        await gate.service.reload(await load(tmp_path, CHANGED, store="memory:"))
        await gate.post()
        await asyncio.to_thread((tmp_path / "go").touch)
        runs = await gate.finished(3)

    assert sorted((tmp_path / "ran").read_text().split()) == ["one", "one", "two"]
    assert len({run["config_hash"] for run in runs}) == 2


async def test_what_needs_a_new_start_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A change that a reload cannot put in force is named in the log, and the rest of the file is in force."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        changed = await load(
            tmp_path, CHANGED.replace("{name: svc,", "{name: svc, listen: 127.0.0.1:9999,"), store="memory:"
        )
        with caplog.at_level(logging.WARNING, "tidegate.service"):
            await gate.service.reload(changed)

    assert "changes of listen take effect when the service is started again" in caplog.text
    assert "more" in gate.service.config.triggers


FLOW = """
from helper import suffix
from pipelines.authoring import task

@task
def one() -> str: return "one" + suffix()
"""


async def test_a_change_of_a_pipelines_python_is_a_reload(tmp_path: Path) -> None:
    """A task that is added to the module, or to one that it imports, is there for new runs; a broken one is refused."""
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "helper.py").write_text("def suffix(): return '!'\n")
    path = tmp_path / "tidegate.yaml"
    path.write_text("service: {name: svc}\npipelines:\n  p: {python: 'flow:one'}\n")
    first = await asyncio.to_thread(load_config, [path], environ={})
    applied: list[ServiceConfig] = []
    refusals: list[str] = []

    async def apply(config: ServiceConfig) -> None:
        applied.append(config)

    async def refused(why: str) -> None:
        refusals.append(why)

    assert {"flow.py", "helper.py"} <= {file.name for file in first.files}
    watching = asyncio.create_task(watch_config(first.files, lambda: load_config([path], environ={}), apply, refused))
    try:
        two = FLOW.replace("@task", "@task\ndef zero() -> str: return ''\n\n@task").replace("one()", "one(zero: str)")
        await _write_until(tmp_path / "flow.py", two, lambda: applied)
        assert [task.name for task in applied[0].pipelines["p"].tasks] == ["zero", "one"]
        await _write_until(tmp_path / "helper.py", "def suffix(: broken", lambda: refusals)
        assert "helper.py line 1" in refusals[0]
    finally:
        watching.cancel()
        await asyncio.wait({watching})
