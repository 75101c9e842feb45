"""Completeness by rest: unchanged for a time, or in so many more scans."""

import pytest

from sensors.adapters import settled
from sensors.adapters.objects import ObjectPage
from sensors.adapters.settled import Settled
from sensors.errors import NotConnected
from sensors.listing import vanished
from tests.support.completing import Completing


async def test_an_object_counts_when_it_has_not_changed_for_the_time() -> None:
    """It is looked at once more when the time is over, and is then one event."""
    bench = Completing({"settle": "30s"})
    bench.put("a")

    assert await bench.scan() == []
    assert await bench.wait(29) == []
    assert await bench.wait(1) == ["a"]
    assert await bench.scan() == []
    assert bench.step.next_due() is None


async def test_an_object_that_changes_waits_anew() -> None:
    """Neither a change that a scan saw nor one that only the last look sees lets an old version pass."""
    bench = Completing({"settle": "30s"})
    bench.put("seen", b"1")
    bench.put("unseen", b"1")
    await bench.scan()
    await bench.wait(20)
    bench.put("seen", b"2")
    await bench.scan()
    await bench.wait(5)
    bench.put("unseen", b"2")

    assert await bench.wait(5) == []
    assert await bench.wait(20) == ["seen"]
    assert await bench.wait(9) == []
    assert await bench.wait(1) == ["unseen"]
    assert bench.memory["unseen"].token == bench.source.listed("unseen").token


async def test_an_object_that_is_gone_is_forgotten() -> None:
    """What was removed while it waited is no event and waits no more."""
    bench = Completing({"settle": "30s"})
    bench.put("a")
    await bench.scan()
    bench.source.remove("a")

    assert await bench.wait(30) == []
    assert bench.step.next_due() is None


async def test_a_scan_finds_again_what_waited_at_a_restart() -> None:
    """Nothing of what waits is durable, and nothing is lost."""
    bench = Completing({"settle": "30s"})
    bench.put("a")
    await bench.scan()
    await bench.wait(20)
    bench.restart()

    assert await bench.wait(20) == []
    await bench.scan()
    assert await bench.wait(30) == ["a"]


async def test_what_does_not_fit_is_left_to_the_next_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the rest comes later, and everything comes once."""
    monkeypatch.setattr(settled, "MAX_WAITING", 3)
    bench = Completing({"settle": "30s"})
    for n in range(8):
        bench.put(f"a{n}")
    told: list[str] = []
    for _ in range(3):
        told += await bench.scan()
        assert isinstance(bench.step, Settled)
        assert len(bench.step) <= 3
        told += await bench.wait(30)

    assert told == [f"a{n}" for n in range(8)]


async def test_old_objects_do_not_wait() -> None:
    """What was modified long before has rested already: a first scan of old objects is done at once."""
    bench = Completing({"settle": "30s"})
    bench.put("old", modified=bench.clock.now() - 3600 * 1_000_000)
    bench.put("not-surely", modified=bench.clock.now() - 600 * 1_000_000)

    assert await bench.scan() == ["old"]
    assert await bench.wait(30) == ["not-surely"]


async def test_an_error_at_the_last_look_loses_nothing() -> None:
    """The look is made again."""
    bench = Completing({"settle": "30s"})
    bench.put("a")
    bench.put("b")
    await bench.scan()
    bench.source.broken["b"] = NotConnected("down")
    with pytest.raises(NotConnected, match="down"):
        await bench.wait(30)
    bench.source.broken.clear()

    assert await bench.wait(0) == ["a", "b"]


async def test_an_object_counts_when_so_many_more_scans_show_it_unchanged() -> None:
    """Two polls are two scans after the first; an overwrite begins the count anew."""
    bench = Completing({"settle": {"polls": 2}, "every": "60s"})
    bench.put("a", b"1")
    bench.put("b", b"1")
    assert await bench.scan() == []
    await bench.wait(60)
    bench.put("b", b"2")
    assert await bench.scan() == []
    await bench.wait(60)
    assert await bench.scan() == ["a"]
    await bench.wait(60)
    assert await bench.scan() == ["b"]


async def test_notifications_are_no_scans() -> None:
    """A notification that comes again at once does not count as another poll."""
    bench = Completing({"settle": {"polls": 2}, "every": "60s"})
    bench.put("a")
    for _ in range(5):
        assert await bench.hint("a") == []
    await bench.wait(60)
    assert await bench.scan() == []
    await bench.wait(60)
    assert await bench.scan() == ["a"]


async def test_a_change_between_the_last_scan_and_the_last_look_waits_anew() -> None:
    """The look at the end of the polls sees what the page did not."""
    bench = Completing({"settle": {"polls": 1}, "every": "60s"})
    bench.put("a", b"1")
    bench.put("b", b"1")
    await bench.scan()
    await bench.wait(60)

    def meanwhile(_prefix: str, _page: ObjectPage) -> None:
        bench.put("a", b"2")
        bench.source.remove("b")

    bench.source.on_page = meanwhile
    assert await bench.scan() == []
    bench.source.on_page = None
    await bench.wait(60)
    assert await bench.scan() == ["a"]


async def test_what_scans_cease_to_show_is_looked_at_and_forgotten_when_gone() -> None:
    """Polls do not keep objects in mind that are no longer there, and keep those that a slow scan has not reached."""
    bench = Completing({"settle": {"polls": 2}, "every": "60s"})
    bench.put("gone")
    bench.put("slow")
    await bench.scan()
    bench.source.remove("gone")

    assert await bench.wait(120) == []
    assert isinstance(bench.step, Settled)
    assert len(bench.step) == 1
    assert bench.step.next_due() == 240


async def test_deletions_need_no_rest() -> None:
    """A deletion passes, and ends the wait of its object."""
    bench = Completing({"settle": "30s"})
    bench.put("a")
    await bench.scan()
    await bench.wait(30)
    bench.put("a", b"2")
    await bench.scan()
    gone = bench.memory["a"]
    changes = vanished([gone], bench.clock.now())  # type: ignore[var-annotated]
    assert (await bench.step.judge(changes, bench.clock.now())).ready == changes
    assert bench.step.next_due() is None
