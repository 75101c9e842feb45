"""The sensors of one configuration: what runs on over a reload, what is replaced, and what operators see."""

import asyncio
from pathlib import Path

import pytest

from sensors.audit import AuditBusy, NotAuditable
from sensors.peeking import NotPeekable
from tests.support.running import Running, load, running, until

TEXT = """
service: {name: svc, store: "sqlite:///store.db"}
sensors:
  hook: {kind: webhook, path: /hooks/in, verify: none}
  same: {kind: files, path: ./same, create: true, start: beginning, settle: 0s}
  changes: {kind: files, path: ./one, create: true, start: beginning, settle: 1s}
  goes: {kind: files, path: ./goes, create: true, start: beginning}
  off: {kind: files, path: ./off, create: true, start: beginning, enabled: false}
"""
CHANGED = (
    TEXT.replace("settle: 1s", "settle: 2s")
    .replace("  goes: {kind: files, path: ./goes, create: true, start: beginning}\n", "")
    .replace(", enabled: false", "")
)


async def _healthy(gate: Running, *names: str) -> None:
    await until(lambda: all(gate.service.sensor_health()[name]["state"] == "healthy" for name in names))


async def test_a_reload_replaces_what_changed_and_nothing_else(tmp_path: Path) -> None:
    """Unchanged sensors run on in the same task, changed ones are replaced, gone ones stopped, new ones started."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        fleet = gate.service._parts.fleet
        await _healthy(gate, "same", "changes", "goes")
        before = {name: one.task for name, one in fleet._running.items()}
        door = gate.webhooks.endpoints["/hooks/in"].gate
        await gate.service.reload(await load(tmp_path, CHANGED, store="memory:"))
        await _healthy(gate, "same", "changes", "off")
        after = {name: one.task for name, one in fleet._running.items()}

    assert set(before) == {"same", "changes", "goes"}
    assert set(after) == {"same", "changes", "off"}
    assert after["same"] is before["same"]
    assert after["changes"] is not before["changes"]
    assert gate.webhooks.endpoints["/hooks/in"].gate is door


async def test_an_unchanged_webhook_keeps_its_counts(tmp_path: Path) -> None:
    """A reload of something else does not make a webhook look as if it had just been started."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await gate.post()
        before = gate.service.sensor_health()["hook"]
        await gate.service.reload(await load(tmp_path, CHANGED, store="memory:"))
        assert gate.service.sensor_health()["hook"] == before
        assert before["events"] == 1


async def test_a_sensor_may_become_another_kind(tmp_path: Path) -> None:
    """Under the same name a folder becomes a webhook and back: never both at once."""
    hook = "same: {kind: webhook, path: /hooks/same, verify: none}"
    line = "same: {kind: files, path: ./same, create: true, start: beginning, settle: 0s}"
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        fleet = gate.service._parts.fleet
        old = fleet._running["same"].task
        await gate.service.reload(await load(tmp_path, TEXT.replace(line, hook), store="memory:"))
        pushed = (await gate.post("/hooks/same")).status
        kind = gate.service.sensor_health()["same"]["kind"]
        ended = old.done()
        await gate.service.reload(await load(tmp_path, TEXT, store="memory:"))
        await _healthy(gate, "same")

        assert (pushed, kind, ended) == (202, "webhook", True)
        assert (await gate.post("/hooks/same")).status == 404
        assert gate.service.sensor_health()["same"]["kind"] == "files"


async def test_a_path_may_move_from_one_sensor_to_another(tmp_path: Path) -> None:
    """After a swap a path belongs to whoever has it now."""
    moved = TEXT.replace("hook: {kind", "newer: {kind")
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await gate.post()
        await gate.service.reload(await load(tmp_path, moved, store="memory:"))
        await gate.post()
        assert [row["sensor"] for row in await gate.events()] == ["hook", "newer"]


@pytest.mark.parametrize("how", ["hold", "drop"])
async def test_a_pause_by_an_operator_outlives_a_replacement(tmp_path: Path, how: str) -> None:
    """A sensor that is paused stays so when its options change; resuming it lets it go on."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await gate.service.pause_sensor("hook", "hold" if how == "hold" else "drop")
        await gate.service.reload(await load(tmp_path, TEXT.replace("/hooks/in", "/hooks/to"), store="memory:"))
        paused = (await gate.post("/hooks/to")).status
        shown = gate.service.sensor_health()["hook"]
        await gate.service.pause_sensor("hook", None)

        assert paused == (503 if how == "hold" else 202)
        assert (shown["state"], shown["paused"]) == ("paused", how)
        assert (await gate.post("/hooks/to")).status == 202
        assert len(await gate.events()) == 1


async def test_files_that_came_while_a_sensor_was_paused_are_seen(tmp_path: Path) -> None:
    """A held folder is looked at again when it goes on; what came meanwhile becomes events, once."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _healthy(gate, "same")
        await gate.service.pause_sensor("same", "hold")
        await until(lambda: gate.service.sensor_health()["same"]["state"] == "paused")
        (tmp_path / "same" / "a.csv").write_text("a")
        await gate.service.pause_sensor("same", None)
        await until(lambda: gate.service.sensor_health()["same"]["events"] == 1)

        assert [row["subject"] for row in await gate.events(sensor="same")] == ["a.csv"]


async def test_an_audit_through_the_service(tmp_path: Path) -> None:
    """A folder is compared with the real store; a webhook has nothing to compare; an unknown name is a KeyError."""
    (tmp_path / "same").mkdir()
    (tmp_path / "same" / "a").write_text("x")
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _healthy(gate, "same")
        await until(lambda: gate.service.sensor_health()["same"]["events"] == 1)
        report = await gate.service.audit_sensor("same", heal=True)
        with pytest.raises(NotAuditable, match="sensor hook is sent its events"):
            await gate.service.audit_sensor("hook", heal=False)
        with pytest.raises(KeyError):
            await gate.service.audit_sensor("nobody", heal=False)

        assert (report.listed, report.remembered, report.missing.count, report.healed) == (1, 1, 0, 0)


async def test_one_audit_of_a_sensor_at_a_time(tmp_path: Path) -> None:
    """While one is under way another of the same sensor is refused; afterwards there may be one again."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _healthy(gate, "same", "changes")
        first = asyncio.ensure_future(gate.service.audit_sensor("same", heal=False))
        await asyncio.sleep(0)
        with pytest.raises(AuditBusy, match="wait until it has ended"):
            await gate.service.audit_sensor("same", heal=False)
        await gate.service.audit_sensor("changes", heal=False)
        await first
        assert (await gate.service.audit_sensor("same", heal=False)).problem == ""


async def test_a_peek_through_the_service(tmp_path: Path) -> None:
    """Shows what a sensor would bring, also of one that is disabled; a webhook and a second peek are refused."""
    (tmp_path / "off").mkdir()
    (tmp_path / "off" / "a").write_text("x")
    text = TEXT.replace("./off, create: true, start: beginning,", "./off, start: beginning, settle: 0s,")
    async with running(await load(tmp_path, text, store="memory:")) as gate:
        first = asyncio.ensure_future(gate.service.peek_sensor("off", 5))
        await asyncio.sleep(0)
        with pytest.raises(NotPeekable, match="somebody peeks at sensor off just now"):
            await gate.service.peek_sensor("off", 5)
        batch = await first
        with pytest.raises(NotPeekable, match="sensor hook is sent its events; send one, then `tidegate events"):
            await gate.service.peek_sensor("hook", 5)
        with pytest.raises(KeyError):
            await gate.service.peek_sensor("nobody", 5)

        assert [event.subject for event in batch.events] == ["a"]
        assert await gate.events() == []
        assert "off" not in gate.service.sensor_health()


async def test_a_source_s_history_through_the_service(tmp_path: Path) -> None:
    """What the source holds, whatever became of it here before; a webhook has none, and nothing is stored or moved."""
    (tmp_path / "off").mkdir()
    (tmp_path / "off" / "a").write_text("x")
    text = TEXT.replace("./off, create: true, start: beginning,", "./off, start: now, settle: 0s,")
    async with running(await load(tmp_path, text, store="memory:")) as gate:
        events = await gate.service.source_history("off", 0, 5)
        later = await gate.service.source_history("off", 4_000_000_000_000_000, 5)
        with pytest.raises(NotPeekable, match="sensor hook is sent its events, so its source has no history"):
            await gate.service.source_history("hook", 0, 5)
        with pytest.raises(KeyError):
            await gate.service.source_history("nobody", 0, 5)

        assert [event.subject for event in events] == ["a"]
        assert later == []
        assert await gate.events() == []
