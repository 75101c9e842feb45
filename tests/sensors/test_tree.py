"""What the files kind stands on: names as keys, walks that stay inside, settling, the agenda, positions, one thread."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.agenda import MAX_CHORES, MAX_HINTS, Agenda, Chore
from sensors.adapters.directory import MAX_LEVELS, Found, Root, Walk
from sensors.adapters.names import is_odd, odd_key, quoted, safe_path, unquoted, unsafe_path
from sensors.adapters.offloop import OffLoop
from sensors.adapters.position import Position, read_position, take_up
from sensors.adapters.settling import Settling
from sensors.adapters.tree import RootChanged, Rules, Tree
from sensors.batch import Cursor
from sensors.errors import NotConnected
from sensors.event import storable_text
from sensors.kinds.files import FilesOptions

_PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
_TRICKY = st.text(st.sampled_from("%0a2AFf\n\x85\u2028é/"), min_size=1, max_size=12)


@given(st.one_of(_PATHS, _TRICKY))
def test_a_key_leads_back_to_its_path(path: str) -> None:
    """Keys are storable text without control characters, and no two paths share one."""
    key = safe_path(path)

    assert unsafe_path(key) == path
    assert storable_text(key)
    assert not any(ord(c) < 32 or c in "\x7f\x85\u2028" for c in key)


@given(st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name))
def test_any_bytes_are_a_key_or_odd(name: bytes) -> None:
    """Every name that a file system allows has a key or is known as odd, and is found again from what is kept."""
    path = os.fsdecode(name)
    if is_odd(path):
        assert os.fsencode(unquoted(quoted(path))) == name
        assert quoted(path).isascii()
        assert odd_key(path).startswith("/odd/")
    else:
        assert unsafe_path(safe_path(path)) == path


def test_long_paths_are_odd() -> None:
    """What is longer than 1024 bytes as a key cannot stand in an index."""
    assert not is_odd("a" * 1024)
    assert is_odd("a" * 1025)
    assert is_odd("\n" * 400)
    assert is_odd("å" * 600)


def _walk(root: Root, limit: int, start: str = "", *, deep: bool = True) -> tuple[list[Found], int, int]:
    walk = Walk(root, start, skips=lambda name: name == "skip", enters=lambda path: path != "closed", deep=deep)
    files: list[Found] = []
    pages = ignored = 0
    while True:
        page = walk.page(limit)
        assert len(page.files) <= limit
        assert page.errors == 0
        files += page.files
        pages += 1
        ignored += page.ignored
        if page.done:
            walk.close()
            return files, pages, ignored


def test_a_walk_tells_every_regular_file_once_in_pages(tmp_path: Path) -> None:
    """Pages are bounded by the entries looked at; skipped names and closed folders are left out."""
    for n in range(25):
        (tmp_path / f"f{n}").write_text("")
    for name in ("sub/deep/x", "closed/y", "skip", "sub/skip/z"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    root = Root(str(tmp_path))
    files, pages, _ = _walk(root, 4)
    assert sorted(f.path for f in files) == sorted([*(f"f{n}" for n in range(25)), "sub/deep/x"])
    assert pages >= 8
    assert [f.path for f in _walk(root, 10, "sub/deep")[0]] == ["sub/deep/x"]
    assert _walk(root, 10, "sub", deep=False)[0] == []
    assert _walk(root, 10, "not/there")[0] == []
    root.close()


def test_a_walk_follows_no_link_anywhere(tmp_path: Path) -> None:
    """Links as entries are ignored, links as a start or in the middle of a path lead nowhere."""
    (tmp_path / "outside/deep").mkdir(parents=True)
    (tmp_path / "outside/deep/x").write_text("")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "outside")
    root = Root(str(tmp_path / "root"))
    assert _walk(root, 10) == ([], 1, 1)
    assert _walk(root, 10, "link")[0] == []
    assert _walk(root, 10, "link/deep")[0] == []
    assert root.stat("link") == "other"
    assert root.stat("link/deep/x") == "absent"
    assert root.stat("../outside/deep/x") == "absent"
    assert root.stat("link/../root") == "absent"
    root.close()


def test_a_tree_deeper_than_descriptors_allow_is_cut_and_counted(tmp_path: Path) -> None:
    """Beyond the deepest level nothing is opened; it is counted as ignored."""
    deep = tmp_path
    for _ in range(MAX_LEVELS + 5):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (tmp_path / "top").write_text("")
    root = Root(str(tmp_path))
    files, _, ignored = _walk(root, 1000)
    assert [f.path for f in files] == ["top"]
    assert ignored == 1
    root.close()


def test_checking_paths_notices_another_root(tmp_path: Path) -> None:
    """When another directory stands where the root was, nothing is said about single paths."""
    root = tmp_path / "r"
    root.mkdir()
    (root / "a").write_text("")
    tree = Tree(str(root), Rules(skips=lambda _: False, enters=lambda _: True, recursive=True))
    tree.open()
    checked = tree.check(["a", "b", "a/c"])
    assert [f.path for f in checked.files] == ["a"]
    assert checked.gone == ["b", "a/c"]
    root.rename(tmp_path / "s")
    root.mkdir()
    with pytest.raises(RootChanged):
        tree.check(["a"])
    tree.close()


def test_settling_waits_for_the_same_version_for_long_enough() -> None:
    """Another version starts the wait anew; the longest waiting come first."""
    settling = Settling(5.0, 2)
    assert settling.offer("a", (1, 1), 0.0) == "waiting"
    assert settling.offer("b", (1, 1), 1.0) == "waiting"
    assert settling.offer("c", (1, 1), 1.0) == "full"
    assert settling.next_due() == 5.0
    assert settling.due(4.9, 10) == []
    assert settling.offer("a", (2, 2), 4.0) == "waiting"
    assert settling.due(7.0, 10) == ["b"]
    assert settling.offer("b", (1, 1), 7.0) == "settled"
    assert settling.offer("a", (2, 2), 9.0) == "settled"
    assert len(settling) == 0
    assert settling.next_due() is None
    assert Settling(0.0, 0).offer("x", (1, 1), 0.0) == "settled"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.floats(0.0, 3.0)), max_size=30))
def test_settled_means_unchanged_for_that_long(looks: list[tuple[str, int, float]]) -> None:
    """Whatever is looked at when, `settled` is said only after `settle` seconds of the same version."""
    settling, now = Settling(2.0, 10), 0.0
    since: dict[str, tuple[int, float]] = {}
    for path, version, pause in looks:
        now += pause
        verdict = settling.offer(path, (version, 0), now)
        known = since.get(path)
        if known is None or known[0] != version:
            since.pop(path, None)
            since[path] = (version, now)
            assert verdict == "waiting"
        else:
            assert (verdict == "settled") == (now - known[1] >= 2.0)
            if verdict == "settled":
                del since[path]
        assert list(settling.due(now, 99)) == [
            p for p, (_, at) in sorted(since.items(), key=lambda i: i[1][1]) if now - at >= 2.0
        ]


def test_the_agenda_is_bounded() -> None:
    """More hints or chores than are kept only say that a whole scan is needed."""
    agenda = Agenda()
    for n in range(MAX_HINTS + 1):
        agenda.hint(str(n))
    assert agenda.overflowed
    assert agenda.take_hints(2) == ["0", "1"]
    agenda.scan()
    assert agenda.scanning
    assert not bool(agenda.overflowed)
    for n in range(MAX_CHORES + 1):
        agenda.add(Chore("walk", str(n)))
    assert agenda.overflowed
    assert len(agenda.chores) == MAX_CHORES


def test_equal_chores_are_done_once_and_the_deeper_wins() -> None:
    """A folder that is to be walked twice is walked once, deeply if either asked for it."""
    agenda = Agenda()
    agenda.add(Chore("walk", "a", deep=False))
    agenda.add(Chore("walk", "a", deep=True))
    agenda.add(Chore("sweep", "a"))
    assert [(c.kind, c.deep) for c in agenda.chores] == [("walk", True), ("sweep", True)]


def test_positions_survive_storage_and_refuse_other_forms() -> None:
    """A position is read back as written; text of another version is no position."""
    position = Position("./in", 5, 7, baseline=True, root="1:2")
    assert read_position(position.to_json()) == position
    for text in ('{"v":2}', "[]", '{"v":1,"nope":1}', "{", '{"v":1}'):
        with pytest.raises(ValueError, match=r"\w"):
            read_position(text)
    options = FilesOptions.model_validate({"path": "./in", "start": "now"})
    with pytest.raises(NotConnected, match="newer version"):
        take_up(Cursor("", "{}"), options, 1)
    assert take_up(Cursor("", position.to_json()), options, 1) == (position, "keep")
    assert take_up(None, options, 9) == (Position("./in", 9, 9), "store")


async def test_one_thread_does_one_thing_at_a_time_also_when_nobody_waits_any_more() -> None:
    """A call whose caller was cancelled goes on; it counts as busy, and the next one waits for it."""
    off, gate, order = OffLoop("test-off"), threading.Event(), []

    def slow() -> None:
        gate.wait(10)
        order.append("slow")

    task = asyncio.create_task(off.do(slow))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert off.busy
    assert not await off.rest(0.01)
    following = asyncio.create_task(off.do(order.append, "next"))
    gate.set()
    await following
    assert order == ["slow", "next"]
    assert await off.rest(1.0)
    with pytest.raises(ZeroDivisionError):
        await off.do(lambda: 1 // 0)
    off.close()
    off.close()
