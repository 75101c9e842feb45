"""The files kind: what is dropped, overwritten, deleted and dropped again, seen while up or down, and hostile trees."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sensors.batch import Batch, Cursor
from sensors.event import parse_data
from sensors.kinds.files import FilesOptions
from sensors.testing import FakeInbox
from tests.support.files import HOUR, wall, watching


def _put(path: Path, text: str = "x", *, age: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if age is not None:
        os.utime(path, (time.time() - age,) * 2)
    return path


async def test_a_dropped_file_is_one_event_with_all_that_is_known(tmp_path: Path) -> None:
    """Id, subject, captures, time and data tell of the file; scanning again tells nothing."""
    file = _put(tmp_path / "acme-2026-01-31.csv", "hello")
    os.utime(file, ns=(1, 1_769_839_200_123_456_789))
    async with watching(tmp_path, pattern="{customer}-{day}.csv") as watched:
        (event,) = watched.inbox.events
        assert event.id == "acme-2026-01-31.csv@5+1769839200123456789#0"
        assert (event.type, event.subject) == ("object.created", "acme-2026-01-31.csv")
        assert event.match == {"customer": "acme", "day": "2026-01-31"}
        assert event.time == 1_769_839_200_123_456
        assert event.source.startswith("file://")
        assert event.source.endswith(str(tmp_path))
        assert parse_data(event.data, event.content_type) == {
            "path": str(file),
            "name": file.name,
            "size": 5,
            "mtime": "2026-01-31T06:00:00.123456Z",
            "url": f"file://{file}",
        }
        writes = len(watched.inbox.batches)
        for _ in range(3):
            await watched.scan()
            await watched.pass_time(70)
        assert len(watched.inbox.batches) == writes
        assert watched.state() == "healthy"


async def test_files_dropped_while_it_was_down_are_seen(tmp_path: Path) -> None:
    """After a restart only what happened meanwhile is told: dropped, overwritten, deleted."""
    inbox = FakeInbox()
    _put(tmp_path / "same", age=100)
    _put(tmp_path / "over", age=100)
    _put(tmp_path / "gone", age=100)
    on = ["created", "modified", "deleted"]
    async with watching(tmp_path, inbox, on=on) as watched:
        assert sorted(watched.told) == [("created", "gone"), ("created", "over"), ("created", "same")]
    inbox.events.clear()
    _put(tmp_path / "new", age=9999)  # an old file moved in
    _put(tmp_path / "over", "longer")
    (tmp_path / "gone").unlink()
    async with watching(tmp_path, inbox, on=on) as watched:
        assert sorted(watched.told) == [("created", "new"), ("deleted", "gone"), ("overwritten", "over")]


async def test_deletion_and_return_with_the_same_size_and_time_is_a_new_incarnation(tmp_path: Path) -> None:
    """A file put back exactly as it was is a new fact once its absence was observed."""
    file = _put(tmp_path / "a", age=500)
    stamp = file.stat().st_mtime_ns
    async with watching(tmp_path, on=["created", "deleted"]) as watched:
        file.unlink()
        await watched.scan()
        _put(file)
        os.utime(file, ns=(stamp, stamp))
        await watched.scan()

        assert [event.id for event in watched.inbox.events] == [
            f"a@1+{stamp}#0",
            f"a@1+{stamp}#0!deleted",
            f"a@1+{stamp}#1",
        ]
        assert watched.inbox.events[1].time is None


async def test_only_what_was_asked_for_is_told(tmp_path: Path) -> None:
    """By default deletions are remembered and not told; `on` chooses."""
    file = _put(tmp_path / "a", age=500)
    async with watching(tmp_path) as watched:
        _put(file, "22")
        await watched.scan()
        file.unlink()
        await watched.scan()
        _put(file, "333")
        await watched.scan()
        assert watched.told == [("created", "a"), ("overwritten", "a"), ("created", "a")]
        assert watched.inbox.events[-1].id.endswith("#1")


async def test_a_file_is_told_only_when_it_has_settled(tmp_path: Path) -> None:
    """While a file grows it waits; it is told once its size and time were the same for `settle`."""
    async with watching(tmp_path, now=wall(), settle="5s") as watched:
        file = _put(tmp_path / "a", "1")
        await watched.hint("a")
        await watched.pass_time(4.9)
        assert watched.told == []
        _put(file, "12")
        await watched.pass_time(0.2)
        assert watched.told == []
        await watched.pass_time(4.7)
        assert watched.told == []
        await watched.pass_time(0.4)
        assert watched.told == [("created", "a")]
        assert watched.inbox.events[0].id.startswith("a@2+")


async def test_a_file_that_went_away_before_it_settled_is_nothing(tmp_path: Path) -> None:
    """What was there for a moment is neither created nor deleted."""
    async with watching(tmp_path, now=wall(), on=["created", "deleted"]) as watched:
        file = _put(tmp_path / "a")
        await watched.hint("a")
        file.unlink()
        await watched.pass_time(2.0)
        assert watched.told == []
        assert len(watched.sensor._judge.settling) == 0


async def test_without_settle_a_file_is_told_at_once(tmp_path: Path) -> None:
    """`settle: 0s` is for files that are moved into place."""
    async with watching(tmp_path, now=wall(), settle="0s") as watched:
        _put(tmp_path / "a")
        await watched.hint("a")
        assert watched.told == [("created", "a")]


async def test_start_now_is_silent_about_what_is_there(tmp_path: Path) -> None:
    """At the first connect everything is remembered and nothing told; afterwards every new file is, however old."""
    _put(tmp_path / "old", age=9999)
    _put(tmp_path / "sub/older", age=99999)
    async with watching(tmp_path, start="now") as watched:
        assert watched.told == []
        assert len(watched.inbox.lookup("drop").objects) == 2
        _put(tmp_path / "new", age=99999)
        _put(tmp_path / "old", "changed")
        await watched.scan()
        assert sorted(watched.told) == [("created", "new"), ("overwritten", "old")]


async def test_an_interrupted_baseline_goes_on_where_its_start_was(tmp_path: Path) -> None:
    """A restart in the first scan keeps the first start: what came since is told, the rest is history."""
    inbox = FakeInbox()
    _put(tmp_path / "old", age=9999)
    first = wall()
    (tmp_path / "locked").mkdir()
    blocked = FakeInbox()
    async with watching(tmp_path, blocked, start="now", now=first) as watched:
        (cursor,) = (await blocked.cursors("drop")).values()
        position = json.loads(cursor.value)
        assert (position["start"], position["baseline"]) == (first, True)
        assert watched.told == []
    position["baseline"] = False  # as it stands in the middle of the first scan
    await inbox.put("drop", Batch(cursors=(Cursor("", json.dumps(position)),)))
    time.sleep(0.02)  # the file system's clock has ticks
    _put(tmp_path / "new")
    async with watching(tmp_path, inbox, start="now") as watched:
        assert watched.told == [("created", "new")]
        assert json.loads((await inbox.cursors("drop"))[""].value)["baseline"] is True


@pytest.mark.parametrize("start", ["-1h", None])
async def test_start_at_a_time_tells_what_was_modified_since(tmp_path: Path, start: str | None) -> None:
    """`-7d` and a timestamp divide history by modification time."""
    _put(tmp_path / "old", age=7200 + 60)
    _put(tmp_path / "young", age=1800)
    text = start or (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    # The clock is ahead, so that nothing counts as touched since the first connect.
    async with watching(tmp_path, start=text, now=wall() + 120_000_000) as watched:
        assert watched.told == [("created", "young")]


async def test_the_folder_is_made_where_that_was_asked_for(tmp_path: Path) -> None:
    """`create: true` makes a missing folder, also the ones above it."""
    async with watching(tmp_path / "a/b", create=True) as watched:
        assert watched.state() == "healthy"
        _put(tmp_path / "a/b/x")
        await watched.scan()
        assert watched.told == [("created", "x")]


async def test_patterns_say_how_deep(tmp_path: Path) -> None:
    """A pattern is over the whole path; folders that cannot hold a match are not entered."""
    for name in ("a.csv", "b.txt", "x/c.csv", "x/y/d.csv"):
        _put(tmp_path / name)
    for pattern, expected in [
        ("*.csv", {"a.csv"}),
        ("**/*.csv", {"a.csv", "x/c.csv", "x/y/d.csv"}),
        ("x/{name}.csv", {"x/c.csv"}),
    ]:
        async with watching(tmp_path, pattern=pattern) as watched:
            assert {subject for _, subject in watched.told} == expected
    async with watching(tmp_path, recursive=False) as watched:
        assert {subject for _, subject in watched.told} == {"a.csv", "b.txt"}


async def test_temporary_names_are_left_out(tmp_path: Path) -> None:
    """Dot files and folders, partial downloads and back-ups are not told; `ignore` replaces the list."""
    for name in ("a", ".b", "c.tmp", "d.part", "e~", "f.crdownload", ".git/config"):
        _put(tmp_path / name)
    async with watching(tmp_path) as watched:
        assert watched.told == [("created", "a")]
        await watched.hint("c.tmp", ".git/config")
        assert watched.told == [("created", "a")]
    async with watching(tmp_path, ignore=["a", "*~"]) as watched:
        assert {s for _, s in watched.told} == {".b", "c.tmp", "d.part", "f.crdownload", ".git/config"}


async def test_a_file_renamed_into_place_is_created(tmp_path: Path) -> None:
    """The usual hand-over, write aside and rename, tells the final name."""
    aside = _put(tmp_path / "a.csv.part")
    async with watching(tmp_path) as watched:
        aside.rename(tmp_path / "a.csv")
        await watched.hint("a.csv.part", "a.csv")
        assert watched.told == [("created", "a.csv")]


@pytest.mark.parametrize(
    "options",
    [
        {"path": "x"},
        {"start": "now"},
        {"path": "", "start": "now"},
        {"path": "x", "start": "yesterday"},
        {"path": "x", "start": "now", "pattern": "{a}{b}"},
        {"path": "x", "start": "now", "on": []},
        {"path": "x", "start": "now", "on": ["moved"]},
        {"path": "x", "start": "now", "follow_symlinks": True},
        {"path": "x", "start": "now", "every": "0s"},
        {"path": "x", "start": "now", "settel": "1s"},
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    """`start` must be said; patterns, events and keys are checked at load."""
    with pytest.raises(ValidationError):
        FilesOptions.model_validate(options)


def test_the_hour_ahead_is_an_hour() -> None:
    """The helper's clock is far enough ahead of the file system for everything to count as settled."""
    assert HOUR // 1_000_000 > 61
