"""The completeness audit: the comparison itself, and a tree of files under a running sensor."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sensors.audit import Audit, AuditReport, Finding, Findings, NotAuditable
from sensors.batch import Batch, SeenObject
from sensors.errors import NotConnected
from sensors.listing import DELETED, PRESENT, Entry
from sensors.polling import Auditable
from sensors.runner import RunnerPorts, SensorRunner
from sensors.testing import FakeInbox, VirtualClock, eventually
from tests.support.files import Watched, wall, watching


def entry(key: str, token: str = "1") -> Entry[None]:
    """Make a listed object."""
    return Entry(key, token, 0, None)


def row(key: str, token: str = "1", state: str = PRESENT) -> SeenObject:
    """Make a remembered object."""
    return SeenObject(key, token, 0, state, 0, 0)


def keys(findings: Findings) -> list[str]:
    """Return the keys that are told."""
    return [finding.key for finding in findings.first]


def audit(found: list[str] | None = None, waits: Iterable[str] = ()) -> Audit[None]:
    """Make an audit in which entries of these keys wait."""
    waiting = {*waits}
    return Audit(lambda e, _: "soon" if e.key in waiting else None, None if found is None else found.append)


def test_a_page_beside_its_range() -> None:
    """One pass over pages in key order finds what is missing, changed, there again, and not there any more."""
    found: list[str] = []
    made = audit(found)
    rows = [row("a"), row("b", "0"), row("c", state=DELETED), row("gone"), row("left", state=DELETED), row("ignored")]
    made.page([entry("a"), entry("b"), entry("c"), entry("d")], rows)
    made.beside(rows, {"a", "b", "c", "d", "ignored"})
    made.count(5, {"pattern": 1, "ignore": 0})
    report = made.report

    assert (report.listed, report.remembered, report.ignored) == (5, 4, {"pattern": 1})
    assert report.missing == Findings(
        2, [Finding("c", "it is there again after it was deleted"), Finding("d", "it was never seen")]
    )
    assert report.changed == Findings(1, [Finding("b", "it is 1, and 0 is remembered")])
    assert report.extra == Findings(1, [Finding("gone", "it is remembered and is not there")])
    assert (found, report.healed, report.problem) == (["b", "c", "d", "gone"], 4, "")


def test_a_page_beside_its_own_keys() -> None:
    """Where pages come in no order, what is not there is told after each remembered object was looked at."""
    made = audit()
    made.page([entry("a"), entry("b")], [row("b")])
    made.rows([row("b"), row("c"), row("d", state=DELETED)])
    made.gone([row("c")])

    assert (keys(made.report.missing), keys(made.report.extra)) == (["a"], ["c"])
    assert (made.report.remembered, made.report.healed) == (2, 0)


def test_what_the_sensor_comes_to_by_itself_is_not_missing() -> None:
    """What is merely new is counted by its reason and handed to nobody; what is remembered as it is does not wait."""
    found: list[str] = []
    made = audit(found, ["a", "b", "c"])
    made.page([entry("a"), entry("b", "2"), entry("c")], [row("b"), row("c")])

    assert made.report == AuditReport(waiting={"soon": 2})
    assert found == []


def test_only_the_first_hundred_are_told_by_name() -> None:
    """Counts are exact however much is missing; the report stays small; the first problem is the one that is told."""
    made = audit()
    for page in range(5):
        made.page([entry(f"{page}/{n:03}") for n in range(60)], [])
    made.fail("first")
    made.fail("second")

    assert made.report.missing.count == 300
    assert len(made.report.missing.first) == 100
    assert made.report.problem == "first"


# -- files -------------------------------------------------------------------------------------------------------------
def put(path: Path, text: str = "x") -> None:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tamper(watched: Watched, *, forget: Iterable[str] = (), remember: Iterable[SeenObject] = ()) -> None:
    """Change what is remembered behind the sensor's back."""
    memory = watched.inbox.lookup(watched.sensor._sensor).objects
    for key in forget:
        del memory[key]
    memory.update({item.key: item for item in remember})


async def test_an_audit_of_a_tree_that_is_whole(tmp_path: Path) -> None:
    """When all is as it should be nothing is told, and what is left out is counted by its reason."""
    for name in ("a.csv", "deep/b.csv", "note.txt", ".hidden", "deep/.tmp/x.csv", "far/off/c.csv"):
        put(tmp_path / name)
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    async with watching(tmp_path, pattern="**/{name}.csv", ignore=(".*",)) as watched:
        writes = len(watched.inbox.batches)
        report = await watched.runner.audit(heal=True)

        assert isinstance(watched.sensor, Auditable)
        assert (report.listed, report.remembered) == (4, 3)
        assert report.ignored == {"pattern": 1, "ignore": 2, "no regular file": 1}
        assert (report.missing, report.extra, report.changed) == (Findings(), Findings(), Findings())
        assert (report.waiting, report.healed, report.problem) == ({}, 0, "")
        assert len(watched.inbox.batches) == writes


async def test_an_audit_finds_and_heals(tmp_path: Path) -> None:
    """What was lost from memory, or is wrong in it, is told with reasons; healed, it becomes events exactly once."""
    odd = os.fsdecode(b"odd\xff")
    for name in ("kept", "lost", "old", "back", odd):
        put(tmp_path / name)
    async with watching(tmp_path, on=("created", "modified", "deleted")) as watched:
        sensor = watched.sensor._sensor
        known = await watched.inbox.lookup(sensor).seen(["back"])
        strange = next(key for key in watched.inbox.lookup(sensor).objects if key.startswith("/odd/"))
        tamper(watched, forget=["lost", strange])
        tamper(watched, remember=[row("gone", "1+1"), row("back", known["back"].token, DELETED)])
        watched.inbox._ids = {name: uid for name, uid in watched.inbox._ids.items() if not name[1].startswith("lost@")}
        put(tmp_path / "old", "newer")
        before = len(watched.inbox.events)
        looked = await watched.runner.audit(heal=False)
        unhealed = len(watched.inbox.events)
        healed = await watched.runner.audit(heal=True)
        await watched.pass_time(10)
        again = await watched.runner.audit(heal=True)
        told = {(str(event.type), str(event.subject)) for event in watched.inbox.events[before:]}

        assert unhealed == before
        assert sorted(keys(looked.missing)) == ["back", "lost", "odd%FF"]
        assert (keys(looked.changed), keys(looked.extra)) == (["old"], ["gone"])
        assert (looked.healed, healed.healed) == (0, 5)
        assert (again.missing.count, again.changed.count, again.extra.count, again.healed) == (0, 0, 0, 0)
        assert told == {
            ("object.created", "lost"),
            ("object.created", "back"),
            ("object.overwritten", "old"),
            ("object.deleted", "gone"),
        }


async def test_what_is_young_waits(tmp_path: Path) -> None:
    """A file that came after the last scan is not missing: the sensor comes to it."""
    async with watching(tmp_path, now=wall()) as watched:
        await watched.rest()
        put(tmp_path / "young")
        report = await watched.runner.audit(heal=True)

        assert report.waiting == {"it is newer than the last scan": 1}
        assert (report.missing.count, report.healed) == (0, 0)


async def test_an_audit_of_many_pages_beside_a_scan(tmp_path: Path) -> None:
    """More files than fit a page are compared while the sensor scans; neither disturbs the other."""
    for n in range(2_300):
        put(tmp_path / f"d{n % 7}" / f"{n:04}")
    async with watching(tmp_path) as watched:
        tamper(watched, forget=["d0/0007"], remember=[row(f"no/{n:04}", "1+1") for n in range(1_200)])
        watched.sensor.poll()
        scanned = watched.rest()
        report, _ = await asyncio.gather(watched.runner.audit(heal=False), scanned)
        after = await watched.runner.audit(heal=False)

        assert report.listed == 2_300
        assert report.problem == ""
        assert (after.remembered, after.missing.count, after.extra.count) == (2_300, 0, 0)
        assert watched.state() == "healthy"


async def test_what_cannot_be_looked_at_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be opened makes the report say so."""
    put(tmp_path / "closed" / "a")
    real = os.open

    def fail(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    async with watching(tmp_path) as watched:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            report = await watched.runner.audit(heal=False)

        assert report.problem == f"{tmp_path}: not everything can be looked at: 'closed': Permission denied"
        assert report.extra == Findings()


async def test_a_tree_that_is_gone_cannot_be_audited(tmp_path: Path) -> None:
    """Without its root there is nothing to compare with; the sentence says why."""
    root = tmp_path / "in"
    root.mkdir()
    async with watching(root) as watched:
        await watched.rest()
        root.rmdir()
        with pytest.raises(NotConnected, match="No such file or directory"):
            await watched.runner.audit(heal=False)


async def test_sensors_that_cannot_be_audited_say_so(tmp_path: Path) -> None:
    """A sensor without the ability, and one that is not connected, answer with a sentence."""

    class Plain:
        async def connect(self, *_: object) -> None:
            """Connect."""

        async def read(self) -> Batch:
            return Batch()

        async def close(self) -> None:
            """Close."""

    inbox = FakeInbox()
    runner = SensorRunner("plain", Plain(), RunnerPorts(inbox, inbox.lookup("plain")), VirtualClock())
    with pytest.raises(NotAuditable, match="sensor plain remembers no objects"):
        await runner.audit(heal=False)
    async with watching(tmp_path) as watched:
        await watched.rest()
        watched.runner.pause("hold")
        await eventually(lambda: not watched.runner._connected)
        with pytest.raises(NotConnected, match="not connected now"):
            await watched.runner.audit(heal=False)
