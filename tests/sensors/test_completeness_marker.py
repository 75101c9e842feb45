"""Completeness of folders by a marker: one event for each publication."""

import pytest

from sensors.adapters import marker
from sensors.adapters.complete_sets import make_set
from sensors.adapters.objects import ObjectPage
from sensors.batch import Cursor
from sensors.errors import BackOff, NotConnected
from sensors.listing import Entry, compare, vanished
from sensors.patterns import compile_pattern
from tests.support.completing import Completing, keys

PATTERN = "orders/dt={day}/{name}.parquet"


def _bench(page_size: int = 1000, **more: object) -> Completing:
    return Completing({"pattern": PATTERN, "marker": "_SUCCESS", **more}, page_size=page_size)


async def test_a_folder_is_one_event_when_its_marker_is_there() -> None:
    """Members are what the pattern wants, in key order, with the captures that all share; files alone are no event."""
    bench = _bench(min_size=1)
    bench.put("orders/dt=1/b.parquet")
    bench.put("orders/dt=1/a.parquet")
    bench.put("orders/dt=1/empty.parquet", b"")
    bench.put("orders/dt=1/notes.txt")
    bench.put("orders/dt=2/a.parquet")
    assert await bench.scan() == []
    await bench.clock.advance(5)
    success = bench.put("orders/dt=1/_SUCCESS", b"")

    assert await bench.scan() == ["orders/dt=1/"]
    (found,) = bench.sets
    assert keys(found) == ["orders/dt=1/a.parquet", "orders/dt=1/b.parquet"]
    assert found.match == {"day": "1"}
    assert found.time == success.modified
    assert found.id.startswith("orders/dt=1/@")
    assert "orders/dt=1/a.parquet" in bench.memory
    assert await bench.scan() == []


async def test_the_order_of_marker_and_files_in_a_page_does_not_matter() -> None:
    """The listing that the marker causes is the truth, page by page, whatever a scan has shown so far."""
    bench = _bench(page_size=2)
    for name in "abcde":
        bench.put(f"orders/dt=1/{name}.parquet")
    bench.put("orders/dt=1/_SUCCESS", b"")

    assert await bench.scan() == ["orders/dt=1/"]
    assert len(bench.sets[0].members) == 5


async def test_a_day_that_is_published_again_fires_again() -> None:
    """A marker written again is another set, with equal files or other ones; late files alone are none."""
    bench = _bench()
    bench.put("orders/dt=1/a.parquet")
    bench.put("orders/dt=1/_SUCCESS", b"")
    assert await bench.scan() == ["orders/dt=1/"]
    await bench.clock.advance(1)
    bench.put("orders/dt=1/_SUCCESS", b"")
    assert await bench.scan() == ["orders/dt=1/"]
    bench.put("orders/dt=1/late.parquet")
    assert await bench.scan() == []
    await bench.clock.advance(1)
    bench.put("orders/dt=1/_SUCCESS", b"")
    assert await bench.scan() == ["orders/dt=1/"]

    assert len({found.id for found in bench.sets}) == 3
    assert [len(found.members) for found in bench.sets] == [1, 1, 2]


async def test_a_marker_deleted_and_written_again_fires_again() -> None:
    """Even within the same second: an observed deletion makes it a new fact."""
    bench = _bench()
    bench.put("orders/dt=1/a.parquet")
    bench.put("orders/dt=1/_SUCCESS", b"")
    assert await bench.scan() == ["orders/dt=1/"]
    bench.source.remove("orders/dt=1/_SUCCESS")
    assert await bench.scan() == []
    bench.put("orders/dt=1/_SUCCESS", b"")

    assert await bench.scan() == ["orders/dt=1/"]


async def test_a_set_that_did_not_become_durable_is_found_again_with_the_same_id() -> None:
    """After a crash between the look and the commit the scan comes to the same event."""
    bench = _bench()
    bench.put("orders/dt=1/a.parquet")
    bench.put("orders/dt=1/_SUCCESS", b"")
    page = await bench.source.page("", None)
    entries = [Entry(one.key, one.token, one.modified, one) for one in page.objects]
    lost = await bench.step.judge(compare(entries, {}, bench.clock.now()), bench.clock.now())
    await bench.clock.advance(100)
    bench.restart()

    assert await bench.scan() == ["orders/dt=1/"]
    assert [found.id for found in lost.sets] == [found.id for found in bench.sets]


async def test_a_marker_that_goes_or_changes_while_its_folder_is_listed() -> None:
    """The marker that the listing shows counts: gone is no set, and a later version is remembered as that."""
    bench = _bench()
    bench.put("orders/dt=1/a.parquet")
    bench.put("orders/dt=1/_SUCCESS", b"")
    bench.put("orders/dt=2/_SUCCESS", b"")
    step = 0

    def meanwhile(prefix: str, _page: ObjectPage) -> None:
        nonlocal step
        if prefix == "" and step == 0:
            step = 1
            bench.source.remove("orders/dt=1/_SUCCESS")
            bench.put("orders/dt=2/_SUCCESS", b"2")

    bench.source.on_page = meanwhile
    assert await bench.scan() == ["orders/dt=2/"]
    assert "orders/dt=1/_SUCCESS" not in bench.memory
    assert await bench.scan() == []


async def test_an_empty_folder_is_published_too() -> None:
    """A day without rows is complete; its captures come from the folder."""
    bench = _bench()
    bench.put("orders/dt=7/_SUCCESS", b"")

    assert await bench.scan() == ["orders/dt=7/"]
    assert (bench.sets[0].members, bench.sets[0].match) == ([], {"day": "7"})


async def test_markers_of_folders_that_hold_no_files_are_none() -> None:
    """Temporary folders, folders off the pattern, and names that only resemble the marker."""
    bench = _bench()
    for key in (
        "orders/_temporary/0/_SUCCESS",
        "orders/.dt=1/_SUCCESS",
        "elsewhere/dt=1/_SUCCESS",
        "orders/dt=1/deeper/_SUCCESS",
        "_SUCCESS",
        "orders/dt=1/x_SUCCESS",
        "orders/dt=1/_SUCCESS/",
        "orders/dt=1/_success",
        "orders/dt=\0/_SUCCESS",
    ):
        assert not bench.step.marks(key), key
    assert bench.step.marks("orders/_SUCCESS")
    assert bench.step.marks("orders/dt=1/_SUCCESS")


async def test_markers_below_ignored_names_are_none() -> None:
    """What a job leaves in its temporary folder publishes nothing; the marker itself may have an ignored name."""
    bench = Completing({"marker": ".done"})
    assert bench.step.marks("orders/.done")
    assert not bench.step.marks("orders/_temporary/0/.done")
    assert not bench.step.marks(".staging/.done")


async def test_a_marker_above_completes_all_folders_below() -> None:
    """A table with partitions has one marker at its root; only captures that all files share are told."""
    bench = _bench()
    bench.put("orders/dt=1/a.parquet")
    bench.put("orders/dt=2/a.parquet")
    bench.put("orders/_SUCCESS", b"")

    assert await bench.scan() == ["orders/"]
    assert bench.sets[0].match == {"name": "a"}


async def test_without_a_pattern_the_whole_bucket_may_be_one_folder() -> None:
    """Its subject is a slash, and other markers are no members."""
    bench = Completing({"marker": "_DONE"})
    bench.put("a/x")
    bench.put("a/_DONE")
    bench.put("_DONE")

    assert await bench.scan() == ["/", "a/"]
    assert [keys(found) for found in bench.sets] == [["a/x"], ["a/x"]]


async def test_a_folder_that_is_too_large_is_trouble_until_its_marker_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not listed again and again; the sentence survives a restart and ends with the next publication."""
    monkeypatch.setattr(marker, "MAX_MEMBERS", 3)
    bench = _bench(page_size=2)
    for n in range(4):
        bench.put(f"orders/dt=1/{n}.parquet")
    bench.put("orders/dt=1/_SUCCESS", b"")
    assert await bench.scan() == []
    bench.restart()
    trouble = bench.step.trouble()
    assert trouble is not None
    assert "orders/dt=1/_SUCCESS" in trouble
    assert "more than 3 files" in trouble
    pages = bench.source.counts["page"]
    await bench.scan()
    assert bench.source.counts["page"] == pages + 3

    bench.source.remove("orders/dt=1/3.parquet")
    await bench.clock.advance(1)
    bench.put("orders/dt=1/_SUCCESS", b"")
    assert await bench.scan() == ["orders/dt=1/"]
    assert bench.step.trouble() is None


async def test_an_error_while_a_folder_is_listed_loses_nothing() -> None:
    """The marker is not remembered, so the next scan finds it again."""
    bench = _bench()
    bench.put("orders/dt=1/a.parquet")
    await bench.scan()
    bench.put("orders/dt=1/_SUCCESS", b"")
    bench.source.fail["page"] = [BackOff("slow down", 1)]
    with pytest.raises(BackOff):
        await bench.hint("orders/dt=1/_SUCCESS")

    assert await bench.scan() == ["orders/dt=1/"]


async def test_a_listing_without_order_gives_the_same_set() -> None:
    """Members are in key order and the id is the same."""
    ordered, backwards = _bench(page_size=2), _bench(page_size=2)
    backwards.source.unordered = True
    for bench in (ordered, backwards):
        for name in ("a", "B", "é", "\U0001f600", "~"):
            bench.put(f"orders/dt=1/{name}.parquet")
        bench.put("orders/dt=1/_SUCCESS", b"")
        await bench.scan()

    assert ordered.sets == backwards.sets
    found = keys(ordered.sets[0])
    assert found == sorted(found, key=str.encode)


async def test_deletions_are_told_of_files_and_not_of_markers() -> None:
    """A file's deletion passes as a change; a marker's is only remembered."""
    bench = _bench()
    bench.put("orders/dt=1/a.parquet")
    bench.put("orders/dt=1/_SUCCESS", b"")
    await bench.scan()
    judged = await bench.step.judge(vanished(bench.memory.values(), 1), 1)

    assert [change.seen.key for change in judged.ready] == ["orders/dt=1/a.parquet"]
    assert [seen.key for seen in judged.seen] == ["orders/dt=1/_SUCCESS"]


async def test_state_of_another_version_is_not_guessed() -> None:
    """A cursor that a newer version wrote is named."""
    bench = _bench()
    with pytest.raises(NotConnected, match="newer version"):
        bench.step.take_up({"sets": Cursor("sets", '{"v": 2}')})
    with pytest.raises(NotConnected, match="newer version"):
        bench.step.take_up({"sets": Cursor("sets", "nonsense")})


async def test_an_id_tells_keys_and_tokens_apart() -> None:
    """Text that moves from a key into a token, or from one member to the next, is another set."""
    bench = _bench()
    marked = bench.put("m")
    (mark,) = compare([Entry("m", marked.token, marked.modified, marked)], {}, 1)
    sets = [
        make_set("s", mark, members, {})
        for members in (
            [bench.put("ab", etag="c")],
            [bench.put("a", etag="bc")],
            [bench.put("a", etag="b"), bench.put("c", etag="d")],
            [],
        )
    ]
    assert len({found.id for found in sets}) == len(sets)
    assert compile_pattern(PATTERN).match("orders/dt=1/a.parquet") is not None
