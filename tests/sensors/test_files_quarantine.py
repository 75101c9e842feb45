"""Where refused files go: moved after they are recorded, never lost, never overwritten, never found again."""

import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sensors.adapters.directory import Found, Root
from sensors.adapters.quarantine import Quarantine
from sensors.clock import SystemClock
from sensors.kind import SensorContext
from sensors.kinds.files import KIND, FilesOptions
from sensors.testing import FakeInbox, eventually, settle
from tests.support.files import watching

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


def moving(**expect: Any) -> Mapping[str, Any]:
    """Return an expectation that moves what breaks it to ./quarantine beside the inbox."""
    return {**EXPECT, **expect, "on_violation": {"move": "../quarantine"}}


async def test_a_refused_file_is_moved_after_it_is_recorded(tmp_path: Path) -> None:
    """With its folders; not before the dead letter is durable; it is no deletion, and the way is free for a new one."""
    inbox = FakeInbox()
    root = tmp_path / "inbox"
    root.mkdir()
    on = ["created", "modified", "deleted"]
    async with watching(root, inbox, expect=moving(), on=on) as watched:
        put(root / "day" / "a.csv", BAD)
        inbox.failures = [OSError("the store is away")]
        watched.sensor.poll()
        await eventually(lambda: not inbox.failures)
        await settle()
        assert (root / "day" / "a.csv").exists()
        assert inbox.dead_letters == []
        await watched.clock.advance(2)
        await watched.rest()
        assert (tmp_path / "quarantine" / "day" / "a.csv").read_text() == BAD
        assert not (root / "day" / "a.csv").exists()
        assert [letter.position for letter in inbox.dead_letters] == ["day/a.csv"]
        put(root / "day" / "a.csv", GOOD)
        await watched.scan()
        assert watched.told == [("created", "day/a.csv")]
        assert watched.state() == "healthy"


async def test_nothing_in_quarantine_is_overwritten(tmp_path: Path) -> None:
    """The same name again gets its version into the name, and the same version a number."""
    root = tmp_path / "inbox"
    root.mkdir()
    async with watching(root, expect=moving()) as watched:
        for text in (BAD, BAD + "2,2\n"):
            put(root / "a.csv", text)
            await watched.scan()
        for _ in range(2):
            os.utime(put(root / "a.csv", BAD), ns=(5, 5))
            await watched.scan()
    names = sorted(path.name for path in (tmp_path / "quarantine").iterdir())
    assert len(names) == 4
    assert {"a.csv", f"a~{len(BAD)}+5.csv", f"a~{len(BAD)}+5~2.csv"} <= set(names)
    assert sorted(len(path.read_text()) for path in (tmp_path / "quarantine").iterdir()) == [15, 15, 15, 19]


async def test_a_move_that_failed_is_said_and_tried_again(tmp_path: Path) -> None:
    """Also after a restart: between the commit and the move everything may stop."""
    root, quarantine = tmp_path / "inbox", tmp_path / "quarantine"
    inbox = FakeInbox()
    put(root / "a.csv", BAD)
    quarantine.write_text("a file where the folder should be")
    async with watching(root, inbox, expect=moving()) as watched:
        await watched.scan()
        assert (root / "a.csv").exists()
        assert watched.state() == "unhealthy"
        assert "cannot be moved to quarantine, such as `a.csv`: File exists" in watched.runner.health.reason
    quarantine.unlink()
    async with watching(root, inbox, expect=moving()) as watched:
        await watched.scan()
        assert (quarantine / "a.csv").read_text() == BAD
        assert watched.state() == "healthy"
    assert len(inbox.dead_letters) == 1


async def test_what_was_refused_before_moving_was_wanted_is_moved_now(tmp_path: Path) -> None:
    """The option may come later; what people leave lying there is moved by the next scan."""
    root, inbox = tmp_path / "inbox", FakeInbox()
    put(root / "a.csv", BAD)
    async with watching(root, inbox, expect=EXPECT):
        pass
    async with watching(root, inbox, expect=moving()):
        pass
    assert (tmp_path / "quarantine" / "a.csv").exists()


def _quarantine(tmp_path: Path) -> tuple[Path, Root, Quarantine]:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    return inbox, Root(str(inbox)), Quarantine(str(tmp_path / "q"), str(inbox), lambda _: False)


def _found(root: Root, path: str) -> Found:
    found = root.stat(path)
    assert isinstance(found, Found)
    return found


def test_only_the_refused_version_is_moved(tmp_path: Path) -> None:
    """A corrected file that came meanwhile stays, and a second try does nothing."""
    inbox, root, quarantine = _quarantine(tmp_path)
    try:
        put(inbox / "a.csv", BAD)
        found = _found(root, "a.csv")
        put(inbox / "a.csv", GOOD)
        assert quarantine.take(root, found) is None
        assert (inbox / "a.csv").read_text() == GOOD
        assert quarantine.take(root, _found(root, "a.csv")) == str(tmp_path / "q" / "a.csv")
        assert quarantine.take(root, found) is None
        assert [path.name for path in (tmp_path / "q").iterdir()] == ["a.csv"]
        assert quarantine.take(root, Found("no/such/folder", 1, 1, 1)) is None
    finally:
        root.close()


def test_a_version_that_comes_in_the_moment_of_the_move_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that was not judged ends in quarantine, and nothing is lost."""
    inbox, root, quarantine = _quarantine(tmp_path)
    plain = os.rename

    def rename(*args: Any, **kwargs: Any) -> None:
        put(inbox / "a.csv", GOOD)
        plain(*args, **kwargs)

    try:
        put(inbox / "a.csv", BAD)
        found = _found(root, "a.csv")
        monkeypatch.setattr(os, "rename", rename)
        assert quarantine.take(root, found) is None
        assert (inbox / "a.csv").read_text() == GOOD
        assert list((tmp_path / "q").iterdir()) == []
    finally:
        root.close()


def test_moving_to_another_file_system_copies_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is taken away only when the copy is whole; one that fails leaves nothing behind."""
    inbox, root, quarantine = _quarantine(tmp_path)

    def rename(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    try:
        file = put(inbox / "a.csv", BAD)
        found = _found(root, "a.csv")
        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(os, "fsync", _full)
        with pytest.raises(OSError, match="No space"):
            quarantine.take(root, found)
        assert file.exists()
        assert list((tmp_path / "q").iterdir()) == []
        monkeypatch.undo()
        monkeypatch.setattr(os, "rename", rename)
        assert quarantine.take(root, found) == str(tmp_path / "q" / "a.csv")
        assert not file.exists()
        moved = tmp_path / "q" / "a.csv"
        assert (moved.read_text(), moved.stat().st_mtime_ns) == (BAD, found.mtime_ns)
    finally:
        root.close()


def _full(_fd: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_long_names_find_a_place(tmp_path: Path) -> None:
    """A name as long as names may be is shortened where its version is added."""
    inbox, root, quarantine = _quarantine(tmp_path)
    try:
        name = "ä" * 125 + ".csv"
        for _ in range(3):
            put(inbox / name, BAD)
            assert quarantine.take(root, _found(root, name)) is not None
        assert len(list((tmp_path / "q").iterdir())) == 3
    finally:
        root.close()


@pytest.mark.parametrize(
    ("move", "options"),
    [
        ("inbox/bad", {}),
        ("inbox", {}),
        (".", {}),
        ("/", {}),
        ("inbox/x/../bad", {}),
        ("inbox/bad", {"pattern": "**/{name}.csv"}),
    ],
)
def test_a_quarantine_within_what_is_watched_is_refused(tmp_path: Path, move: str, options: Mapping[str, Any]) -> None:
    """It would be judged again, and moved again; said when the sensor is built."""
    with pytest.raises(ValueError, match="choose one beside it"):
        _build(tmp_path, move, options)


@pytest.mark.parametrize(
    ("move", "options"),
    [
        ("quarantine", {}),
        ("inbox-bad", {}),
        ("inbox/.bad", {}),
        ("inbox/bad", {"recursive": False}),
        ("inbox/bad", {"pattern": "{name}.csv"}),
        ("inbox/bad", {"ignore": ["bad"]}),
    ],
)
def test_a_quarantine_that_is_not_looked_at_is_fine(tmp_path: Path, move: str, options: Mapping[str, Any]) -> None:
    """Beside the watched folder, or where nothing counts."""
    _build(tmp_path, move, options)


def _build(base: Path, move: str, options: Mapping[str, Any]) -> None:
    given = {"path": "inbox", "start": "now", "expect": {**EXPECT, "on_violation": {"move": move}}, **options}
    KIND.build(FilesOptions.model_validate(given), SensorContext("drop", "svc", SystemClock(), base))


async def test_a_quarantine_that_leads_back_by_a_link_moves_nothing(tmp_path: Path) -> None:
    """Links are seen only when the file is moved; the sensor says it, and the file stays."""
    root = tmp_path / "inbox"
    put(root / "a.csv", BAD)
    (tmp_path / "quarantine").symlink_to(root)
    async with watching(root, expect=moving()) as watched:
        assert (root / "a.csv").exists()
        assert "lies inside the watched folder" in watched.runner.health.reason or "holds" in (
            watched.runner.health.reason
        )
