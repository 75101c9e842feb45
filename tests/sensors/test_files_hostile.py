"""The files kind in bad company: hostile names and links, mounts that go away, errors, floods, broken notices."""

import os
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sensors.adapters import judging
from sensors.event import parse_data
from sensors.ports import Unavailable
from sensors.testing import FakeInbox, eventually, settle
from tests.support.files import wall, watching


def _put(path: Path, text: str = "x", *, age: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if age is not None:
        os.utime(path, (time.time() - age,) * 2)
    return path


async def test_links_and_devices_are_ignored_counted_and_never_followed(tmp_path: Path) -> None:
    """Links out of the tree, loops, pipes and dangling links tell nothing and lead nowhere."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    _put(outside / "secret")
    _put(root / "a")
    (root / "loop").symlink_to(root)
    (root / "out").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    async with watching(root) as watched:
        assert watched.told == [("created", "a")]
        assert watched.inbox.counts == {"ignored": 5}
        await watched.hint("loop", "out", "out/secret", "loop/a", "file", "pipe", "../outside/secret")
        await watched.scan()
        assert watched.told == [("created", "a")]
        assert watched.inbox.counts == {"ignored": 5}
        assert watched.state() == "healthy"


async def test_a_file_replaced_by_a_link_is_deleted(tmp_path: Path) -> None:
    """A link is no file: what stood there is gone."""
    file = _put(tmp_path / "a")
    other = _put(tmp_path / "b")
    async with watching(tmp_path, on=["deleted"]) as watched:
        file.unlink()
        file.symlink_to(other)
        await watched.scan()
        assert watched.told == [("deleted", "a")]


async def test_a_root_that_is_a_link_is_the_operators_wish(tmp_path: Path) -> None:
    """Only what lies below the root is hostile."""
    _put(tmp_path / "real/a")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with watching(tmp_path / "link") as watched:
        assert watched.told == [("created", "a")]


async def test_names_that_are_not_text_are_dead_letters_once(tmp_path: Path) -> None:
    """A name that is not UTF-8 is reported once with its bytes, and again only after it was gone."""
    inbox = FakeInbox()
    odd = os.fsencode(tmp_path) + b"/bad\xff\n.csv"
    Path(os.fsdecode(odd)).write_text("x")
    async with watching(tmp_path, inbox) as watched:
        await watched.scan()
        (letter,) = inbox.dead_letters
        assert (letter.reason, letter.position, letter.payload) == (
            "unreadable_name",
            "bad%FF%0A.csv",
            b"bad\xff\n.csv",
        )
        assert watched.told == []
    async with watching(tmp_path, inbox) as watched:
        assert len(inbox.dead_letters) == 1
        Path(os.fsdecode(odd)).unlink()
        await watched.scan()
        assert [k for k, o in inbox.lookup("drop").objects.items()] == []
        Path(os.fsdecode(odd)).write_text("x")
        await watched.scan()
        assert len(inbox.dead_letters) == 2


async def test_a_path_too_long_for_an_index_is_a_dead_letter(tmp_path: Path) -> None:
    """More than 1024 bytes of path cannot be remembered as they are."""
    deep = tmp_path
    for _ in range(5):
        deep = deep / ("d" * 250)
    _put(deep / "file")
    async with watching(tmp_path) as watched:
        assert len(watched.inbox.dead_letters) == 1
        await watched.scan()
        assert len(watched.inbox.dead_letters) == 1
        assert watched.told == []


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("line\nbreak.csv", "line%0Abreak.csv"),
        ("esc\x1b[31m.csv", "esc%1B[31m.csv"),
        ("a%0Ab", "a%250Ab"),
        ("100%.csv", "100%.csv"),
        ("smørbrød 'x' \"y\".csv", "smørbrød 'x' \"y\".csv"),
        ("-rf", "-rf"),
        ("$(reboot)", "$(reboot)"),
    ],
)
async def test_hostile_names_arrive_as_safe_text(tmp_path: Path, name: str, subject: str) -> None:
    """Control characters are escaped in the subject, the true path is in the data, and deletion finds it again."""
    _put(tmp_path / name)
    async with watching(tmp_path, on=["created", "deleted"]) as watched:
        (event,) = watched.take()
        assert event.subject == subject
        assert parse_data(event.data, event.content_type)["path"] == f"{tmp_path}/{name}"
        (tmp_path / name).unlink()
        await watched.scan()
        assert watched.told == [("deleted", subject)]


async def test_a_folder_moved_in_or_away_is_followed(tmp_path: Path) -> None:
    """One notice for a folder tells of all the files in it."""
    root, aside = tmp_path / "root", tmp_path / "aside"
    _put(root / "seed")
    for name in ("d/a", "d/e/b"):
        _put(aside / name)
    async with watching(root, on=["created", "deleted"]) as watched:
        watched.take()
        (aside / "d").rename(root / "d")
        await watched.hint("d")
        assert sorted(watched.told) == [("created", "d/a"), ("created", "d/e/b")]
        watched.take()
        (root / "d").rename(aside / "d")
        await watched.hint("d")
        assert sorted(watched.told) == [("deleted", "d/a"), ("deleted", "d/e/b")]


async def test_a_file_that_becomes_a_folder_is_deleted(tmp_path: Path) -> None:
    """Where a folder stands now the file is gone, and what is in the folder is new."""
    file = _put(tmp_path / "a")
    async with watching(tmp_path, on=["created", "deleted"]) as watched:
        file.unlink()
        _put(tmp_path / "a/b")
        await watched.hint("a")
        assert sorted(watched.told[1:]) == [("created", "a/b"), ("deleted", "a")]


async def test_too_many_hints_make_a_scan(tmp_path: Path) -> None:
    """When more was noticed than is kept, everything is compared instead."""
    async with watching(tmp_path) as watched:
        _put(tmp_path / "a")
        watched.sensor._hints.changed([f"{tmp_path}/nothing-{n}" for n in range(10_001)])
        await watched.rest()
        assert watched.told == [("created", "a")]


async def test_a_missing_root_is_unhealthy_with_a_remedy(tmp_path: Path) -> None:
    """A folder that is not there says so; when it comes the sensor recovers."""
    root = tmp_path / "later"
    async with watching(root) as watched:
        for _ in range(5):
            await watched.clock.advance(2.0)
            await watched.rest()
        assert watched.state() == "unhealthy"
        assert "create it, or correct `path`" in watched.runner.health.reason
        _put(root / "a")
        for _ in range(30):  # in small steps: a thread opens the folder, in real time
            await watched.clock.advance(5.0)
            await watched.rest()
        assert watched.told == [("created", "a")]
        assert watched.witness.changes == [False, True]


async def test_an_empty_folder_in_place_of_the_root_deletes_nothing(tmp_path: Path) -> None:
    """A mount that went away leaves an empty folder: no deletion is concluded, and the sensor looks ill."""
    root = tmp_path / "mount"
    _put(root / "a")
    async with watching(root, on=["created", "deleted"]) as watched:
        root.rename(tmp_path / "elsewhere")
        root.mkdir()
        await watched.scan()
        await watched.hint("a")
        assert watched.told == [("created", "a")]
        assert watched.state() == "unhealthy"
        assert "not mounted" in watched.runner.health.reason
        root.rmdir()
        (tmp_path / "elsewhere").rename(root)
        await watched.scan()
        assert watched.state() == "healthy"
        assert watched.told == [("created", "a")]


async def test_a_scan_with_an_error_concludes_no_deletion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one folder cannot be listed, files elsewhere are told, none is taken for deleted, and it looks ill."""
    _put(tmp_path / "bad/a")
    _put(tmp_path / "b")
    real = os.open

    def fail(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "bad":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    async with watching(tmp_path, on=["created", "deleted"]) as watched:
        watched.take()
        (tmp_path / "b").unlink()
        _put(tmp_path / "c")
        monkeypatch.setattr(os, "open", fail)
        await watched.scan()
        assert watched.told == [("created", "c")]
        assert watched.state() == "unhealthy"
        assert "'bad': Permission denied" in watched.runner.health.reason
        monkeypatch.undo()
        await watched.scan()
        assert watched.told == [("created", "c"), ("deleted", "b")]
        assert watched.state() == "healthy"


async def test_another_path_asks_what_it_means(tmp_path: Path) -> None:
    """A changed `path` is refused until `cursor` says keep or reset; both do what they say."""
    inbox = FakeInbox()
    for folder in ("one", "two"):
        file = _put(tmp_path / folder / "a")
        os.utime(file, ns=(7, 7))
    async with watching(tmp_path / "one", inbox) as watched:
        assert len(watched.take()) == 1
    async with watching(tmp_path / "two", inbox) as watched:
        await watched.clock.advance(5.0)
        await watched.rest()
        assert watched.state() == "unhealthy"
        assert "cursor: keep" in watched.runner.health.reason
    async with watching(tmp_path / "two", inbox, cursor="keep") as watched:
        assert watched.told == []
    _put(tmp_path / "one/b")
    async with watching(tmp_path / "one", inbox, cursor="reset") as watched:
        assert watched.told == [("created", "b")]  # `a` is told again with the id it had, and dropped as a duplicate
        assert inbox.duplicates == 1
    async with watching(tmp_path / "one", inbox, cursor="reset") as watched:
        assert inbox.duplicates == 1


async def test_the_store_away_loses_no_file(tmp_path: Path) -> None:
    """While nothing can be stored the page is kept; afterwards every file is told once."""
    async with watching(tmp_path) as watched:
        inbox = watched.inbox
        for n in range(30):
            _put(tmp_path / f"f{n:02}")
        inbox.failures = [Unavailable("gone", 1.0)] * 5
        watched.sensor.poll()
        await eventually(lambda: len(inbox.failures) < 5)
        for _ in range(8):
            await watched.clock.advance(60.0)
        await eventually(lambda: len(inbox.events) == 30)
        await watched.scan()
        assert inbox.duplicates == 0


async def test_twenty_thousand_files_in_the_memory_of_a_page(tmp_path: Path) -> None:
    """A big tree is told in full, page by page; scanning it again allocates little and writes nothing."""
    for folder in range(20):
        (tmp_path / f"d{folder}").mkdir()
        for n in range(1000):
            os.close(os.open(f"{tmp_path}/d{folder}/f{n:04}", os.O_CREAT))
    async with watching(tmp_path) as watched:
        assert len(watched.inbox.events) == 20_000
        assert max(len(batch.events) for batch in watched.inbox.batches) <= 1100
        writes = len(watched.inbox.batches)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await watched.scan()
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert len(watched.inbox.batches) == writes
        assert peak < 6_000_000


async def test_more_changing_files_than_are_kept_in_mind_are_found_by_the_next_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of settling files is bounded; none is lost."""
    monkeypatch.setattr(judging, "MAX_SETTLING", 10)
    for n in range(35):
        _put(tmp_path / f"f{n:02}")
    async with watching(tmp_path, now=wall()) as watched:
        for _ in range(12):
            assert len(watched.sensor._judge.settling) <= 10
            await watched.pass_time(1.1)
        assert len(watched.told) == 35


async def test_real_notices_bring_a_file_without_a_scan(tmp_path: Path) -> None:
    """The operating system's notice is enough, also in a folder made while watching; links make no extra watches."""
    _put(tmp_path / "root/seed")
    root = tmp_path / "root"
    (root / "out").symlink_to("/")
    async with watching(root, notices=True, settle="0s", every="1h") as watched:
        _put(root / "a")
        await eventually(lambda: ("created", "a") in watched.told)
        _put(root / "new/b")
        await eventually(lambda: ("created", "new/b") in watched.told)
        await eventually(lambda: f"{root}/new" in watched.sensor._hints.watched)
        _put(root / "new/c")
        await eventually(lambda: ("created", "new/c") in watched.told)
        assert watched.sensor._hints.watched == {str(root), f"{root}/new"}


async def test_notices_that_break_are_replaced_by_scans(tmp_path: Path) -> None:
    """A name that the notices cannot tell stops them; the sensor scans, watches again, and goes on."""
    async with watching(tmp_path, notices=True, settle="0s", every="1h") as watched:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_text("x")
        await eventually(lambda: watched.sensor._hints.broken_times == 1)
        await watched.clock.advance(2.0)
        await eventually(lambda: bool(watched.sensor._hints.watched))
        await eventually(lambda: len(watched.inbox.dead_letters) == 1)
        _put(tmp_path / "a")
        await eventually(lambda: ("created", "a") in watched.told)
        assert watched.state() == "healthy"


async def test_stopping_leaves_no_threads_and_no_descriptors(tmp_path: Path) -> None:
    """After a stop nothing of the sensor is left open."""
    _put(tmp_path / "a/b/c")
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for _ in range(3):
        async with watching(tmp_path, notices=True) as watched:
            await watched.scan()
    await settle()
    await eventually(lambda: not any(t.name.startswith("files-") for t in threading.enumerate()))
    if before:
        assert len(list(descriptors.iterdir())) <= before
