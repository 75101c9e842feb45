"""The contract of targets, on every kind that the registry knows: a write is done once, whole, and by who may."""

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import polars as pl
import pytest

from pipelines.datasets.registry import KINDS
from pipelines.datasets.written import Last, StaleWrite, WriteRefused
from tests.support.dataset_places import FRAME, LOCAL, REMOTE, Place, stamp


def test_every_kind_is_tested() -> None:
    """The places of this suite are all kinds of the registry."""
    assert {name.removesuffix("-folder") for name in (*LOCAL, *REMOTE)} == set(KINDS)


def test_a_write_is_read_back_and_repeating_it_leaves_one_copy(place: Place) -> None:
    """What was written is there, whole, with its columns and version; repeating the attempt changes nothing."""
    first = place.write(FRAME)
    second = place.write(FRAME)

    assert (first.created, second.created) == (True, False)
    assert first.rows == second.rows == 3
    assert first.schema == (("id", "Int64"), ("name", "String"))
    assert first.version == second.version == "run_1.1"
    assert not first.changes
    assert place.read().sort("id").rows() == FRAME.rows()
    with closing(place.open()) as table:
        seen, content = table.look(), table.read()
    assert seen is not None
    assert (seen.rows, seen.schema, seen.version, content.version) == (3, first.schema, "run_1.1", "run_1.1")


def test_the_judge_decides_before_anything_is_published(place: Place) -> None:
    """A judge that raises leaves the old data; it sees the last write of another run, not its own run's."""
    seen: list[Last | None] = []
    place.write(FRAME, stamp(), judge=seen.append)
    place.write(FRAME.head(1), stamp(attempt=2), judge=seen.append)

    def refuse(last: Last | None) -> None:
        seen.append(last)
        raise LookupError("no")

    with pytest.raises(LookupError):
        place.write(FRAME.head(2), stamp("run_2", 7, at=5), judge=refuse)

    assert set(seen) == {None, Last(1, (("id", "Int64"), ("name", "String")))}
    assert place.ids() == [1]


def test_older_holders_and_attempts_are_refused(place: Place) -> None:
    """Of one run, a lower token or an earlier attempt cannot write after a newer one; another run can."""
    place.write(FRAME, stamp(fence=5, attempt=2))

    for late in (stamp(fence=4, attempt=9), stamp(fence=5, attempt=1), stamp(fence=4, task="another")):
        with pytest.raises(StaleWrite):
            place.write(FRAME.head(1), late)
    assert place.ids() == [1, 2, 3]
    place.write(FRAME.head(2), stamp("run_2", resumes="run_1", at=2))
    with pytest.raises(StaleWrite, match="resumed"):
        place.write(FRAME, stamp(fence=9, attempt=9))
    assert place.ids() == [1, 2]


def test_an_append_is_done_once_per_run(full_place: Place) -> None:
    """Rows are added by name, once per run, however often its task is repeated, taken over, or resumed."""
    place = full_place
    who = [stamp(), stamp(), stamp(fence=2, attempt=2), stamp("run_2", at=2), stamp("run_3", resumes="run_2", at=3)]
    done = [place.write(FRAME.select("name", "id"), one, "append") for one in who]
    done.append(place.write(FRAME, stamp("run_4", resumes="run_3", at=4), "append"))

    assert [write.repeated for write in done] == [False, True, True, False, True, True]
    assert place.ids() == [1, 1, 2, 2, 3, 3]
    assert place.read().filter(pl.col("id") == 3)["name"].to_list() == ["c", "c"]


def test_a_late_repeat_does_not_undo_what_others_wrote_since(full_place: Place) -> None:
    """Replacing again is left out when another run has replaced since; while it is the last write it is done again."""
    place = full_place
    place.write(FRAME)
    place.write(FRAME.head(2), stamp(attempt=2))
    assert place.ids() == [1, 2]
    place.write(FRAME.tail(1), stamp("run_2", at=2))

    assert place.write(FRAME, stamp(attempt=3)).repeated
    assert place.ids() == [3]


def test_merge_updates_by_key_and_keeps_the_rest(full_place: Place) -> None:
    """Known rows change in the columns that come, new ones are added, the others stay; twice is as once."""
    place = full_place
    place.write(FRAME)
    more = pl.DataFrame({"id": [3, 4], "amount": [1.5, 2.5]})
    done = [place.write(more, stamp("run_2", attempt=n, at=2), "merge", key=("id",)) for n in (1, 2)]

    assert [write.rows for write in done] == [2, 2]
    rows = place.read().select("id", "name", "amount").sort("id").rows()
    assert rows == [(1, "a", None), (2, None, None), (3, "c", 1.5), (4, None, 2.5)]


def test_soft_delete_marks_what_is_missing_and_unmarks_what_returns(full_place: Place) -> None:
    """A row that is missing from the new full set stays and is marked; one that returns is unmarked."""
    place = full_place
    place.write(FRAME, stamp(at=1_000_000), "soft_delete", key="id")
    assert place.gone() == []
    place.write(FRAME.head(1), stamp("run_2", at=2_000_000), "soft_delete", key=["id"])
    assert place.gone() == [2, 3]
    place.write(FRAME.tail(2), stamp("run_3", at=3_000_000), "soft_delete", key=["id"])

    assert place.gone() == [1]
    assert place.ids() == [1, 2, 3]


def test_only_the_partitions_that_come_are_replaced(full_place: Place) -> None:
    """With `partition_by` other partitions stay; a run of one partition empties it when no row comes."""
    place = full_place
    days = pl.DataFrame({"id": [1, 2, 3], "day": ["a", "a", "b"]})
    place.write(days, partition_by=["day"])
    place.write(pl.DataFrame({"id": [4], "day": ["a"]}), stamp("run_2", at=2), partition_by=["day"])
    assert place.ids() == [3, 4]
    empty = days.clear()
    place.write(empty, stamp("run_3", at=3, partition="b"), partition_by=["day"])
    assert place.ids() == [4]

    with pytest.raises(WriteRefused, match="partition 'b', but rows come of day a"):
        place.write(days, stamp("run_4", at=4, partition="b"), partition_by=["day"])


def test_columns_evolve_or_are_refused(full_place: Place) -> None:
    """New columns are added, dropped ones become null; another type, and any difference when strict, is refused."""
    place = full_place
    place.write(pl.DataFrame({"id": [1], "name": ["a"]}))
    written = place.write(pl.DataFrame({"id": [2], "size": [1.5]}), stamp("run_2", at=2), "append")

    assert written.changes.added == (("size", "Float64"),)
    assert [name for name, _ in written.schema] == ["id", "name", "size"]
    assert place.read().select("id", "name", "size").sort("id").rows() == [(1, "a", None), (2, None, 1.5)]
    with pytest.raises(WriteRefused, match="cast"):
        place.write(pl.DataFrame({"id": ["x"]}), stamp("run_3", at=3), "append")
    with pytest.raises(WriteRefused, match="schema: strict"):
        place.write(pl.DataFrame({"id": [3]}), stamp("run_3", at=3), "append", schema="strict")
    assert place.ids() == [1, 2]


def test_what_is_far_away_keeps_the_contract(far_place: Place) -> None:
    """On servers, too, a repeat adds nothing, an older holder is refused, and a merge knows its rows (in short)."""
    place = far_place
    place.write(FRAME, stamp(fence=2), "append")
    assert place.write(FRAME, stamp(fence=3, attempt=2), "append").repeated
    with pytest.raises(StaleWrite):
        place.write(FRAME, stamp("run_1", fence=1), "append")
    more = pl.DataFrame({"id": [3, 4], "amount": [1.5, 2.5]})
    written = place.write(more, stamp("run_2", at=2), "merge", key=["id"])

    assert written.changes.added == (("amount", "Float64"),)
    assert place.read().select("id", "name", "amount").sort("id").rows() == [
        (1, "a", None),
        (2, None, None),
        (3, "c", 1.5),
        (4, None, 2.5),
    ]


@pytest.mark.parametrize("point", ["dataset.staged", "dataset.before_publish", "dataset.published"])
def test_a_writer_that_dies_leaves_all_or_nothing(full_place: Place, point: str) -> None:
    """Whatever step a writer dies at, the next attempt leaves every row once."""
    place = full_place
    place.write(FRAME)

    class Died(Exception):
        pass

    def die(reached: str) -> None:
        if reached == point:
            raise Died

    with pytest.raises(Died):
        place.write(FRAME, stamp("run_2", at=2, reached=die), "append")
    assert place.ids() == ([1, 1, 2, 2, 3, 3] if point == "dataset.published" else [1, 2, 3])
    place.write(FRAME, stamp("run_2", attempt=2, fence=2, at=3), "append")

    assert place.ids() == [1, 1, 2, 2, 3, 3]


def test_readers_never_see_half(place: Place) -> None:
    """Whoever reads while it is replaced, again and again, sees one whole version."""
    size = 400
    place.write(_version(0, size), stamp("run_0", at=0))
    seen: list[Any] = []
    stop = threading.Event()
    failed: list[BaseException] = []

    def watch() -> None:
        try:
            while not stop.is_set():
                frame = place.read()
                seen.append((frame.height, frame["v"].n_unique()))
        except BaseException as error:
            failed.append(error)

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for number in range(1, 5):
            place.write(_version(number, size), stamp(f"run_{number}", at=number))
        _until(lambda: len(seen) > 0 or bool(failed))
    finally:
        stop.set()
        reader.join()

    assert not failed
    assert set(seen) == {(size, 1)}


def _version(number: int, size: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(size), "v": [number] * size})


def _until(met: Callable[[], bool]) -> None:
    """Wait for another thread."""
    pause = threading.Event()
    while not met():
        pause.wait(0.01)
