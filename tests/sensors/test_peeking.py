"""Peeking has no side effect: no folder is made, no file or object is moved, no message is received, nothing waits."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sensors.batch import Batch, Cursor, DeadLetter, SeenObject
from sensors.errors import BadPayload, Exhausted, NotConnected
from sensors.kind import SensorContext
from sensors.kinds import files, s3
from sensors.peeking import WITHIN, peek
from sensors.ports import Lookup, Prefilter
from sensors.sensor import Sensor
from sensors.testing import FakeInbox, FakeLookup, VirtualClock, settle
from tests.support.aws import Aws
from tests.support.clocks import HurriedClock


def _files(folder: Path, **options: Any) -> Sensor:
    given = {"path": str(folder / "in"), "start": "beginning", "settle": "0s", **options}
    return files.build(files.FilesOptions.model_validate(given), SensorContext("f", "svc", HurriedClock(), folder))


async def test_a_folder_is_not_made(tmp_path: Path) -> None:
    """`create: true` makes the folder for the sensor, not for who peeks at it."""
    with pytest.raises(NotConnected, match="No such file"):
        await peek(_files(tmp_path, create=True), {}, FakeLookup(), 5, HurriedClock())
    assert list(tmp_path.iterdir()) == []


async def test_a_refused_file_stays(tmp_path: Path) -> None:
    """What would be refused is shown as a dead letter and stays where it is."""
    (tmp_path / "in").mkdir()
    bad = tmp_path / "in" / "a.csv"
    bad.write_text("id,total\n1,2\n")
    expect = {"columns": ["id", "amount"], "on_violation": {"move": str(tmp_path / "quarantine")}}
    batch = await peek(_files(tmp_path, expect=expect), {}, FakeLookup(), 5, HurriedClock())

    assert [letter.reason for letter in batch.dead_letters] == ["refused"]
    assert bad.exists()
    assert not (tmp_path / "quarantine").exists()


async def test_messages_and_objects_stay(ministack: Aws, tmp_path: Path) -> None:
    """A bucket with a queue and a move: messages are not received, and actions that are due are not done."""
    with ministack.bucket() as bucket, ministack.queue() as queue:
        bucket.notify(queue)
        await asyncio.to_thread(bucket.put, "in/a.csv")
        waiting = await asyncio.to_thread(queue.count)
        options = {
            **bucket.options,
            "start": "beginning",
            "notifications": {"sqs": queue.url},
            "after": {"do": "delete", "when": "accepted"},
        }
        context = SensorContext("s", "svc", HurriedClock(), tmp_path)
        sensor = s3.build(s3.S3Options.model_validate(options), context)
        inbox = FakeInbox()
        first = await peek(sensor, {}, inbox.lookup("s"), 5, HurriedClock())
        # what the event of another time has left to do
        await inbox.put("s", first)
        inbox.runs.update({event.uid: "accepted" for event in first.events})
        again = await peek(
            s3.build(s3.S3Options.model_validate(options), context), {}, inbox.lookup("s"), 5, HurriedClock()
        )

        assert [event.subject for event in first.events] == ["in/a.csv"]
        assert [event.id for event in again.events] == [event.id for event in first.events]
        assert await asyncio.to_thread(bucket.keys) == ["in/a.csv"]
        assert await asyncio.to_thread(queue.count) == waiting >= 1
        assert await asyncio.to_thread(lambda: queue.count(hidden=True)) == 0


class _Scripted:
    """A sensor that brings what a test says, and counts its calls."""

    def __init__(self, *steps: Batch | Exception) -> None:
        self.steps = list(steps)
        self.calls: list[str] = []
        self.lookup: Lookup = FakeLookup()
        self.acked = 0
        self.hang = False

    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        self.calls.append("connect")
        self.lookup = lookup
        if self.hang:
            await asyncio.Event().wait()

    async def read(self) -> Batch:
        self.calls.append("read")
        if not self.steps:
            await asyncio.Event().wait()
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def close(self) -> None:
        self.calls.append("close")


def _seen(key: str, state: str = "present") -> SeenObject:
    return SeenObject(key, "t", 0, state, 1, 1)


async def test_reading_ends_when_nothing_more_comes() -> None:
    """A source that is quiet ends the peek after a moment; unreadable payloads are shown; it is closed once."""
    clock = VirtualClock()
    sensor = _Scripted(Batch(counts={"x": 1}), BadPayload("no JSON", b"{", "p/1"), Batch())
    peeking = asyncio.ensure_future(peek(sensor, {}, FakeLookup(), 5, clock))
    await settle()
    assert not peeking.done()
    await clock.advance(2.0)
    batch = await peeking

    assert [(letter.reason, letter.position) for letter in batch.dead_letters] == [("bad_payload", "p/1")]
    assert sensor.calls == ["connect", "read", "read", "read", "read", "close"]


async def test_there_are_never_more_than_asked_for() -> None:
    """Events first, then dead letters, up to the limit; what follows is not read."""
    letters = tuple(DeadLetter("r", "d", str(n)) for n in range(4))
    sensor = _Scripted(Batch(dead_letters=letters), Batch())
    batch = await peek(sensor, {}, FakeLookup(), 3, VirtualClock())

    assert [letter.position for letter in batch.dead_letters] == ["0", "1", "2"]
    assert sensor.calls == ["connect", "read", "close"]


async def test_the_end_of_a_source_is_the_end_of_the_peek() -> None:
    """A source that has ended is closed, and what it brought is shown."""
    sensor = _Scripted(Batch(dead_letters=(DeadLetter("r", "d", "1"),)), Exhausted("over"))

    assert len((await peek(sensor, {}, FakeLookup(), 3, VirtualClock())).dead_letters) == 1
    assert sensor.calls[-1] == "close"


async def test_a_source_that_does_not_answer_is_given_up() -> None:
    """Neither a connect nor a whole peek takes longer than its time."""
    clock, sensor = VirtualClock(), _Scripted()
    sensor.hang = True
    peeking = asyncio.ensure_future(peek(sensor, {}, FakeLookup(), 3, clock))
    await settle()
    await clock.advance(WITHIN)
    with pytest.raises(NotConnected, match="has not answered within 20 s"):
        await peeking
    assert sensor.calls == ["connect"]


async def test_what_was_read_is_remembered_for_the_length_of_the_peek() -> None:
    """Later reads see what earlier batches would have made durable, laid over the real memory, which stays."""
    under = FakeLookup({key: _seen(key) for key in ("a", "b", "c", "d")})
    sensor = _Scripted(Batch(seen=(_seen("bb"), _seen("c", "deleted")), forget=("a", "d")))
    clock = VirtualClock()
    peeking = asyncio.ensure_future(peek(sensor, {}, under, 3, clock))
    await settle()
    look = sensor.lookup

    assert sorted(await look.seen(["a", "b", "bb", "c", "z"])) == ["b", "bb", "c"]
    assert [row.key for row in await look.seen_after("", 10)] == ["b", "bb"]
    for limit in (1, 2, 10):
        keys: list[str] = []
        while rows := await look.seen_range(keys[-1] if keys else "", None, limit):
            keys += [row.key for row in rows]
        assert keys == ["b", "bb", "c"]
    assert [row.key for row in await look.seen_range("b", "c", 10)] == ["bb", "c"]
    assert await look.due_actions(10) == ()
    await clock.advance(WITHIN)
    await peeking
    assert sorted(under.objects) == ["a", "b", "c", "d"]
    assert under.objects["c"] == _seen("c")
