"""Completeness of single files by markers: each file is an event when its marker is there and not older."""

import pytest

from sensors.adapters import file_gate
from sensors.adapters.file_gate import FileGate
from sensors.adapters.marks import DEEPEST
from sensors.errors import NotConnected
from tests.support.completing import Completing


def _done(**more: object) -> Completing:
    return Completing({"pattern": "in/{day}/{name}.csv", "marker": "{name}.done", **more})


@pytest.mark.parametrize("marker_first", [True, False])
async def test_marker_and_file_come_in_any_order(marker_first: bool) -> None:
    """The file is the event, whichever came first; the marker is none."""
    bench = _done()
    first, second = ("in/1/a.done", "in/1/a.csv") if marker_first else ("in/1/a.csv", "in/1/a.done")
    bench.put(first)
    assert await bench.scan() == []
    bench.put(second)

    assert await bench.scan() == ["in/1/a.csv"]
    assert await bench.scan() == []


@pytest.mark.parametrize("hinted", ["in/1/a.csv", "in/1/a.done"])
async def test_a_notification_is_enough(hinted: str) -> None:
    """What a notification names last opens the gate at once, without a scan."""
    bench = _done()
    other = "in/1/a.done" if hinted == "in/1/a.csv" else "in/1/a.csv"
    bench.put(other)
    assert await bench.hint(other) == []
    bench.put(hinted)

    assert await bench.hint(hinted) == ["in/1/a.csv"]


async def test_a_file_written_again_waits_for_a_marker_as_new() -> None:
    """A marker speaks of what was there when it was written."""
    bench = _done()
    bench.put("in/1/a.csv", b"1")
    bench.put("in/1/a.done")
    assert await bench.scan() == ["in/1/a.csv"]
    await bench.clock.advance(61)
    bench.put("in/1/a.csv", b"2")
    assert await bench.scan() == []
    assert await bench.scan() == []
    bench.put("in/1/a.done")

    assert await bench.scan() == ["in/1/a.csv"]
    assert len(bench.ids) == 2


async def test_what_passes_is_the_version_that_is_there_now() -> None:
    """A file that was written again while it waited passes as what it is; one that is gone does not."""
    bench = _done()
    bench.put("in/1/a.csv", b"1")
    bench.put("in/1/b.csv", b"1")
    await bench.scan()
    bench.put("in/1/a.csv", b"2")
    bench.source.remove("in/1/b.csv")
    bench.put("in/1/a.done")
    bench.put("in/1/b.done")

    assert await bench.hint("in/1/a.done", "in/1/b.done") == ["in/1/a.csv"]
    assert bench.memory["in/1/a.csv"].token == bench.source.listed("in/1/a.csv").token
    assert isinstance(bench.step, FileGate)
    assert len(bench.step) == 0


async def test_after_a_restart_a_scan_finds_what_waited() -> None:
    """Files that wait are not remembered."""
    bench = _done()
    bench.put("in/1/a.csv")
    await bench.scan()
    bench.restart()
    bench.put("in/1/a.done")
    assert await bench.hint("in/1/a.done") == []

    assert await bench.scan() == ["in/1/a.csv"]


async def test_what_does_not_fit_into_memory_comes_with_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory loses nothing."""
    monkeypatch.setattr(file_gate, "MAX_WAITING", 2)
    bench = _done()
    for n in range(5):
        bench.put(f"in/1/{n}.csv")
    await bench.scan()
    assert isinstance(bench.step, FileGate)
    assert len(bench.step) == 2
    for n in range(5):
        bench.put(f"in/1/{n}.done")

    assert sorted(await bench.scan()) == [f"in/1/{n}.csv" for n in range(5)]


async def test_an_error_loses_nothing() -> None:
    """What waited waits on."""
    bench = _done()
    bench.put("in/1/a.csv")
    await bench.scan()
    bench.put("in/1/a.done")
    bench.source.broken["in/1/a.csv"] = NotConnected("down")
    with pytest.raises(NotConnected):
        await bench.hint("in/1/a.done")
    bench.source.broken.clear()

    assert await bench.hint("in/1/a.done") == ["in/1/a.csv"]


async def test_a_marker_with_a_slash_is_a_whole_key() -> None:
    """Markers may lie elsewhere, and `{file}` is the file's last segment."""
    bench = Completing({"pattern": "in/{day}/{name}.csv", "marker": "flags/{day}/{file}.ok"})
    bench.put("in/7/a.csv")
    bench.put("flags/7/b.csv.ok")
    assert await bench.scan() == []
    bench.put("flags/7/a.csv.ok")

    assert await bench.scan() == ["in/7/a.csv"]


async def test_without_a_pattern_a_marker_is_beside_its_file() -> None:
    """Markers are no files themselves."""
    bench = Completing({"marker": "{file}.done"})
    bench.put("x/a")
    bench.put("x/a.done")
    bench.put("a.done")
    bench.put("y/a")

    assert await bench.scan() == ["x/a"]


async def test_the_files_of_a_folder_are_single_events_when_its_marker_is_there() -> None:
    """`emit: file` opts out of sets; a marker above completes folders below; later files wait for the next marker."""
    bench = Completing({"pattern": "o/dt={day}/{name}", "marker": "_SUCCESS", "emit": "file"})
    bench.put("o/dt=1/a")
    bench.put("o/dt=2/b")
    assert await bench.scan() == []
    bench.put("o/dt=1/_SUCCESS")
    assert await bench.scan() == ["o/dt=1/a"]
    bench.put("o/_SUCCESS")
    assert await bench.scan() == ["o/dt=2/b"]
    await bench.clock.advance(100)
    bench.put("o/dt=1/late")
    assert await bench.scan() == []
    bench.put("o/dt=1/_SUCCESS")
    assert await bench.scan() == ["o/dt=1/late"]


async def test_a_hostile_depth_is_asked_for_boundedly() -> None:
    """A key of very many folders does not cause as many looks, and those of one page are shared."""
    bench = Completing({"marker": "_SUCCESS", "emit": "file"})
    deep = "/".join("d" * 300)
    bench.put(f"{deep}/a")
    bench.put(f"{deep}/b")
    await bench.scan()

    assert bench.source.counts["head"] == DEEPEST


async def test_waiting_files_are_looked_for_once_in_a_scan() -> None:
    """Notifications that repeat themselves cause no looks; markers of the same page cause none either."""
    bench = _done()
    bench.put("in/1/a.csv")
    for _ in range(5):
        await bench.hint("in/1/a.csv")
    assert bench.source.asked.count(("head", "in/1/a.done")) == 1
    bench.put("in/1/b.csv")
    bench.put("in/1/b.done")
    assert await bench.scan() == ["in/1/b.csv"]
    assert ("head", "in/1/b.done") not in bench.source.asked
