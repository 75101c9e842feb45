"""The files kind with `inspect` and `expect`: what files hold, which are refused, and where those go."""

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sensors.adapters.directory import FileChanged, Found, Root
from sensors.adapters.tree import Tree
from sensors.event import Event, parse_data
from sensors.kinds.files import KIND
from sensors.testing import FakeInbox, check_sensor
from tests.support.files import Watched, wall, watching

GOOD = "id,amount\n1,2.5\n"
BAD = "id,total\n1,2.5\n"
EXPECT: Mapping[str, Any] = {"columns": {"id": "int", "amount": "float"}}
MISSING = "column `amount` is missing"


def put(path: Path, text: str = GOOD, *, age: float = 500.0) -> Path:
    """Write a file of some age."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)
    return path


def data_of(event: Event) -> Mapping[str, Any]:
    """Return an event's data."""
    data = parse_data(event.data, event.content_type)
    assert isinstance(data, dict)
    return data


async def test_inspected_files_tell_their_form(tmp_path: Path) -> None:
    """Format, schema and rows are among the event's data; a file that is no table says so and is an event."""
    put(tmp_path / "a.csv")
    put(tmp_path / "b.json", "[1, 2")
    async with watching(tmp_path, inspect=True) as watched:
        events = {event.subject: data_of(event) for event in watched.inbox.events}
        assert events["a.csv"]["schema"] == [{"name": "id", "type": "int64"}, {"name": "amount", "type": "float64"}]
        assert (events["a.csv"]["format"], events["a.csv"]["rows"]) == ("csv", 1)
        assert events["a.csv"]["size"] == len(GOOD)
        assert "no JSON" in events["b.json"]["error"]
        assert watched.inbox.counts == {}
        assert watched.state() == "healthy"


async def test_a_file_that_breaks_what_is_expected_is_refused(tmp_path: Path) -> None:
    """No event, a dead letter that says why, a count; it is not judged again until it changes, not after a restart."""
    inbox = FakeInbox()
    put(tmp_path / "good.csv")
    bad = put(tmp_path / "bad.csv", BAD)
    async with watching(tmp_path, inbox, expect=EXPECT) as watched:
        assert watched.told == [("created", "good.csv")]
        (letter,) = inbox.dead_letters
        assert (letter.reason, letter.detail, letter.position) == ("refused", MISSING, "bad.csv")
        payload = json.loads(letter.payload)
        assert payload["difference"] == {"missing": ["amount"]}
        assert payload["event"]["type"] == "object.created"
        assert payload["event"]["data"]["schema"][1] == {"name": "total", "type": "float64"}
        assert payload["event"]["data"]["path"] == str(bad)
        assert inbox.counts == {"refused": 1}
        await watched.scan()
        await watched.pass_time(70)
    async with watching(tmp_path, inbox, expect=EXPECT) as watched:
        await watched.scan()
    assert len(inbox.dead_letters) == 1
    assert inbox.counts == {"refused": 1}
    assert bad.exists()


async def test_the_first_accepted_version_is_created_for_all(tmp_path: Path) -> None:
    """Who listens only for new files gets a corrected one; later ones are overwritten; refused versions are silent."""
    async with watching(tmp_path, expect=EXPECT, on=["created", "modified", "deleted"]) as watched:
        for text in (BAD, BAD + "2,2\n", GOOD, BAD + "3,3\n3,3\n", GOOD + "2,2\n"):
            put(tmp_path / "a.csv", text)
            await watched.scan()
        assert watched.told == [("created", "a.csv"), ("overwritten", "a.csv")]
        assert watched.inbox.counts == {"refused": 3}
        (tmp_path / "a.csv").unlink()
        await watched.scan()
        assert watched.told[2:] == [("deleted", "a.csv")]
    async with watching(tmp_path, expect=EXPECT, on=["created"]) as watched:
        for text in (BAD, GOOD):
            put(tmp_path / "b.csv", text)
            await watched.scan()
        assert watched.told == [("created", "b.csv")]


async def test_nobody_hears_of_the_end_of_what_nobody_heard_of(tmp_path: Path) -> None:
    """A refused file that is taken away was never there; dropped again it is judged again."""
    async with watching(tmp_path, expect=EXPECT, on=["created", "deleted"]) as watched:
        put(tmp_path / "a.csv", BAD)
        await watched.scan()
        (tmp_path / "a.csv").unlink()
        await watched.scan()
        assert watched.told == []
        put(tmp_path / "a.csv", BAD)
        await watched.scan()
        assert len(watched.inbox.dead_letters) == 2
        put(tmp_path / "a.csv", GOOD)
        await watched.scan()
        assert watched.told == [("created", "a.csv")]


async def test_what_was_there_at_the_start_is_not_judged(tmp_path: Path) -> None:
    """With `start: now` history is silent, whatever it holds."""
    put(tmp_path / "old.csv", BAD)
    async with watching(tmp_path, expect=EXPECT, start="now") as watched:
        assert watched.inbox.dead_letters == []
        put(tmp_path / "new.csv", BAD)
        await watched.scan()
        assert [letter.position for letter in watched.inbox.dead_letters] == ["new.csv"]


async def test_as_last_is_kept_with_the_events(tmp_path: Path) -> None:
    """The form of the last accepted file is durable with its event, and outlives a restart."""
    inbox = FakeInbox()
    put(tmp_path / "1.csv", "id\n1\n")
    async with watching(tmp_path, inbox, expect={"mode": "as_last"}) as watched:
        (batch,) = (batch for batch in inbox.batches if batch.events)
        assert [cursor.shard for cursor in batch.cursors if cursor.shard == "expect"] == ["expect"]
        put(tmp_path / "2.csv", "id,more\n1,2\n")
        await watched.scan()
    async with watching(tmp_path, inbox, expect={"mode": "as_last"}) as watched:
        put(tmp_path / "3.csv", "id,more\n1,2\n")
        put(tmp_path / "4.csv", "id\n7\n")
        await watched.scan()
        assert watched.state() == "healthy"
    assert sorted(str(event.subject) for event in inbox.events) == ["1.csv", "4.csv"]
    assert [letter.detail for letter in inbox.dead_letters] == ["column `more` is not expected"] * 2


# -- files that cannot be read now ------------------------------------------------------------------------------------
async def test_a_file_written_again_while_it_is_read_is_judged_as_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One event, of the version that stayed; nothing of the one in between."""
    plain = Tree.read
    again = iter([GOOD + "2,3\n", GOOD + "2,3\n4,5\n"])

    def read(tree: Tree, found: Found, start: int, length: int) -> bytes:
        text = next(again, None)
        if text is not None:
            put(tmp_path / "a.csv", text)
        return plain(tree, found, start, length)

    monkeypatch.setattr(Tree, "read", read)
    put(tmp_path / "a.csv")
    async with watching(tmp_path, expect=EXPECT) as watched:
        (event,) = watched.inbox.events
        assert data_of(event)["rows"] == 3
        assert event.id.startswith(f"a.csv@{len(GOOD) + 8}+")


async def test_a_file_that_goes_away_while_it_is_read_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an event nor a dead letter."""
    plain = Tree.read

    def read(tree: Tree, found: Found, start: int, length: int) -> bytes:
        (tmp_path / "a.csv").unlink(missing_ok=True)
        return plain(tree, found, start, length)

    monkeypatch.setattr(Tree, "read", read)
    put(tmp_path / "a.csv")
    async with watching(tmp_path, expect=EXPECT) as watched:
        assert watched.told == []
        assert watched.inbox.dead_letters == []
        assert watched.state() == "healthy"


async def test_a_file_that_cannot_be_read_waits_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sensor names it and is unhealthy, other files go on, and it is judged when it can be read."""
    plain = Tree.read
    failing = {"a.csv"}

    def read(tree: Tree, found: Found, start: int, length: int) -> bytes:
        if found.path in failing:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return plain(tree, found, start, length)

    monkeypatch.setattr(Tree, "read", read)
    put(tmp_path / "a.csv")
    put(tmp_path / "b.csv")
    async with watching(tmp_path, expect=EXPECT) as watched:
        for _ in range(3):
            assert watched.told == [("created", "b.csv")]
            assert watched.state() == "unhealthy"
            assert watched.runner.health.reason == "1 file cannot be read, such as `a.csv`: Permission denied"
            await watched.scan()
        failing.clear()
        await watched.scan()
        assert watched.told == [("created", "b.csv"), ("created", "a.csv")]
        assert watched.state() == "healthy"


async def test_a_file_that_may_not_be_read_is_told_where_nothing_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`inspect` adds what it can; other errors wait for the next scan, and are over when the file is gone."""
    error = errno.EACCES

    def read(tree: Tree, found: Found, start: int, length: int) -> bytes:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Tree, "read", read)
    put(tmp_path / "a.csv")
    async with watching(tmp_path, inspect=True) as watched:
        (event,) = watched.take()
        assert data_of(event)["error"] == "it may not be read"
        error = errno.EIO
        put(tmp_path / "b.csv")
        await watched.scan()
        assert watched.take() == []
        assert watched.state() == "unhealthy"
        (tmp_path / "b.csv").unlink()
        await watched.scan()
        assert watched.state() == "healthy"


def test_only_the_version_that_was_found_is_read(tmp_path: Path) -> None:
    """Not a link in its place, not another file, not a longer one; and never anything outside the tree."""
    inside, outside = tmp_path / "in", put(tmp_path / "out" / "secret", "secret")
    file = put(inside / "f" / "a", "0123456789")
    root = Root(str(inside))
    try:
        found = root.stat("f/a")
        assert isinstance(found, Found)
        assert root.read(found, 2, 3) == b"234"
        assert root.read(found, -3, 99) == b"789"
        assert root.read(found, -99, 2) == b"01"
        assert root.read(found, 10, 5) == b""
        put(file, "0123456789+")
        with pytest.raises(FileChanged):
            root.read(found, 0, 1)
        file.unlink()
        with pytest.raises(FileChanged):
            root.read(found, 0, 1)
        file.symlink_to(outside)
        with pytest.raises(FileChanged):
            root.read(found, 0, 1)
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(FileChanged):
            root.read(found, 0, 1)
        file.unlink()
        file.parent.rmdir()
        file.parent.symlink_to(outside.parent)
        with pytest.raises(FileChanged):
            root.read(Found("f/secret", 6, outside.stat().st_mtime_ns, 0), 0, 1)
    finally:
        root.close()


async def test_many_files_are_inspected_a_few_at_a_time(tmp_path: Path) -> None:
    """So that events come while the scan goes on, and every file is one of the two outcomes."""
    for index in range(250):
        put(tmp_path / f"{index}.csv", BAD if index % 5 == 0 else GOOD)
    async with watching(tmp_path, expect=EXPECT) as watched:
        assert len(watched.inbox.events) == 200
        assert len(watched.inbox.dead_letters) == watched.inbox.counts["refused"] == 50
        assert max(len(batch.events) + len(batch.dead_letters) for batch in watched.inbox.batches) <= 100


async def test_the_contract_of_kinds_holds_with_inspection(tmp_path: Path) -> None:
    """Identity, storable texts and restart, as without it."""
    (tmp_path / "in").mkdir()

    async def drop() -> None:
        put(tmp_path / "in" / "a\x01b.csv", "a\x01,b\n1,2\n")

    events = await check_sensor(
        KIND,
        {"path": "in", "start": "beginning", "settle": "0s", "expect": {"columns": ["b"]}},
        base=tmp_path,
        stimulate=drop,
    )
    assert data_of(events[0])["schema"][0]["name"] == "a�"


async def test_a_file_still_being_written_is_not_judged(tmp_path: Path) -> None:
    """`settle` comes first: half a file is not refused."""
    async with watching(tmp_path, now=wall(), settle="5s", expect=EXPECT) as watched:
        await _grow(watched, tmp_path / "a.csv")
        assert watched.inbox.dead_letters == []
        assert watched.told == [("created", "a.csv")]


async def _grow(watched: Watched, file: Path) -> None:
    put(file, "id,", age=0)
    await watched.hint("a.csv")
    await watched.pass_time(3)
    put(file, GOOD, age=0)
    await watched.hint("a.csv")
    await watched.pass_time(6)
