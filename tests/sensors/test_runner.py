"""The one loop: order, durability before ack, back-off, hang, poison, pause, stop, and health told exactly once."""

import asyncio
from dataclasses import replace

import pytest

from sensors.batch import Batch, Cursor, Fence, SeenObject, merged
from sensors.errors import BackOff, BadPayload, Exhausted, NotConnected
from sensors.ports import Unavailable
from sensors.runner import RunnerSettings
from sensors.testing import settle
from tests.support.sensors import make_event, running


def _batch(n: int, acks: list[int] | None = None) -> Batch:
    async def ack() -> None:
        if acks is not None:
            acks.append(n)

    return Batch(events=(make_event(n),), cursors=(Cursor("", str(n)),), ack=ack)


async def test_batches_become_durable_in_order_and_are_acknowledged_after() -> None:
    """Three batches are stored in the order read, each acknowledged once it is durable."""
    acks: list[int] = []
    async with running([_batch(n, acks) for n in (1, 2, 3)]) as stage:
        assert [event.id for event in stage.inbox.events] == ["id-1", "id-2", "id-3"]
        assert acks == [1, 2, 3]
        assert stage.state() == "healthy"
        assert stage.runner.health.events == 3
        assert stage.runner.health.lag == 7.0
        assert stage.runner.health.last_success == stage.clock.now()


async def test_an_empty_batch_is_a_success_that_stores_nothing() -> None:
    """Asked, nothing new: healthy, and no write."""
    async with running([Batch()]) as stage:
        assert stage.state() == "healthy"
        assert stage.inbox.batches == []
        assert stage.witness.batches == []


async def test_the_same_batch_is_tried_until_it_is_durable() -> None:
    """While the store is away nothing is read, acknowledged or dropped; then the very batch is stored."""
    acks: list[int] = []
    async with running() as stage:
        stage.inbox.failures = [Unavailable("gone", 2.0)] * 3 + [RuntimeError("a bug")]
        stage.sensor.add(_batch(1, acks), _batch(2, acks))
        await settle()
        reads = stage.sensor.log.count("read")
        await stage.pass_time(5.0)
        assert stage.state() == "unhealthy"
        assert "gone" in stage.runner.health.reason
        assert acks == []
        assert stage.sensor.log.count("read") == reads

        await stage.pass_time(60.0)
        assert [event.id for event in stage.inbox.events] == ["id-1", "id-2"]
        assert acks == [1, 2]
        assert stage.state() == "healthy"
        assert stage.witness.changes == [False, True]
        assert "close" not in stage.sensor.log


async def test_of_a_batch_in_pieces_only_what_is_stale_is_dropped() -> None:
    """When one shard is somebody else's by now, the work on the others is stored; then it connects anew."""
    acks: list[int] = []
    async with running() as stage:
        owned = await stage.inbox.lookup("s").own(["a", "b"])
        pieces = [
            replace(_batch(n, acks), cursors=(Cursor(shard, "1"),), fences=(Fence(shard, owned[shard].epoch),))
            for n, shard in enumerate(owned, 1)
        ]
        await stage.inbox.lookup("s").own(["a"])  # by another process
        stage.sensor.add(merged(pieces))
        await settle()

        assert [event.id for event in stage.inbox.events] == ["id-2"]
        assert set(await stage.inbox.cursors("s")) == {"b"}
        assert acks == [2]
        assert len(stage.witness.batches) == 1
        await stage.pass_time(5.0)
        assert stage.sensor.log.count("connect") == 2


async def test_a_stale_batch_is_not_acknowledged_and_the_position_is_read_anew() -> None:
    """When another process took over, the sensor is connected again at the durable position."""
    acks: list[int] = []
    async with running() as stage:
        stage.inbox.stale = True
        stage.sensor.add(_batch(1, acks))
        await stage.pass_time(1.0)

        assert acks == []
        assert stage.inbox.events == []
        assert stage.sensor.log == ["connect", "read", "close", "connect", "read"]


async def test_reconnecting_starts_at_the_durable_cursor() -> None:
    """After NotConnected the sensor is closed and connected at what was stored, not at what was read."""
    async with running([_batch(1), NotConnected("lost")]) as stage:
        await stage.pass_time(1.0)
        assert stage.sensor.log == ["connect", "read", "read", "close", "connect", "read"]
        assert stage.sensor.seen_cursors[-1] == {"": Cursor("", "1")}
        assert stage.witness.changes == []


async def test_backoff_grows_to_its_limit_and_starts_anew_after_success() -> None:
    """Failures double the wait up to the limit; a success resets it."""
    errors: list[BaseException | None] = [NotConnected("down")] * 6
    settings = RunnerSettings(backoff=1.0, max_backoff=8.0)
    async with running(connects=errors, settings=settings) as stage:
        waits: list[float] = []
        seen = stage.sensor.log.count("connect")
        for _ in range(6):
            start = stage.clock.monotonic()
            while stage.sensor.log.count("connect") == seen:
                await stage.pass_time(0.5)
            seen += 1
            waits.append(stage.clock.monotonic() - start)
        assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
        assert "close" not in stage.sensor.log  # a connect that failed is not closed

        stage.sensor.add(Batch(), NotConnected("again"))
        await settle()
        await stage.pass_time(1.0)
        assert stage.sensor.log[-1] == "read"


async def test_health_changes_are_told_exactly_once() -> None:
    """A long illness is one change, its end another; a pause in between changes nothing."""
    async with running(connects=[NotConnected("down")] * 5) as stage:
        await stage.pass_time(3.0)
        assert stage.state() == "unhealthy"
        assert stage.runner.health.reason == "down"
        stage.runner.pause("hold")
        await settle()
        assert stage.state() == "paused"
        stage.runner.resume()
        await stage.pass_time(300.0)
        stage.sensor.add(Batch(), Batch())
        await settle()

        assert stage.state() == "healthy"
        assert stage.witness.changes == [False, True]
        assert stage.witness.states[-1] == "healthy"


async def test_one_lost_connection_does_not_make_it_unhealthy() -> None:
    """A single failure between successes alarms nobody."""
    async with running([Batch(), NotConnected("blip"), Batch(), NotConnected("blip"), Batch()]) as stage:
        await stage.pass_time(10.0)
        assert stage.witness.changes == []
        assert stage.runner.health.errors == 2


async def test_backoff_on_request_keeps_the_connection() -> None:
    """A source that asks for patience gets exactly that, without a reconnect."""
    async with running([BackOff("slow down", 30.0), _batch(1)]) as stage:
        await stage.pass_time(29.9)
        assert stage.inbox.events == []
        await stage.pass_time(0.2)
        assert len(stage.inbox.events) == 1
        assert "close" not in stage.sensor.log


async def test_a_hanging_read_is_replaced_and_tells_at_once() -> None:
    """A read that never returns is given up, the connection replaced, and the sensor looks dead meanwhile."""
    async with running(settings=RunnerSettings(hang=20.0)) as stage:
        await stage.pass_time(19.0)
        assert stage.sensor.log == ["connect", "read"]
        await stage.pass_time(1.0)
        assert stage.state() == "unhealthy"
        assert "20 s" in stage.runner.health.reason
        await stage.pass_time(1.0)
        assert stage.sensor.log == ["connect", "read", "close", "connect", "read"]


async def test_poison_goes_to_the_dead_letters_and_the_loop_goes_on() -> None:
    """An unreadable payload is kept with its reason; what follows is read on the same connection."""
    async with running([BadPayload("no JSON", b"\xff", "p/1"), _batch(1)]) as stage:
        (letter,) = stage.inbox.dead_letters
        assert (letter.reason, letter.detail, letter.position, letter.payload) == (
            "bad_payload",
            "no JSON",
            "p/1",
            b"\xff",
        )
        assert len(stage.inbox.events) == 1
        assert "close" not in stage.sensor.log


async def test_a_sensor_that_stands_still_at_poison_does_not_flood() -> None:
    """The same position twice in a row is one dead letter, then a failure with a back-off."""
    async with running([BadPayload("x", b"", "p/1")] * 4) as stage:
        await stage.pass_time(0.0)
        assert len(stage.inbox.dead_letters) == 1
        await stage.pass_time(60.0)
        assert len(stage.inbox.dead_letters) == 1
        assert stage.state() == "unhealthy"
        assert "p/1" in stage.runner.health.reason


async def test_an_exhausted_source_ends_the_loop() -> None:
    """The sensor is closed and not connected again."""
    async with running([_batch(1), Exhausted("end of file")]) as stage:
        await asyncio.wait_for(stage.task, 1.0)
        assert stage.sensor.log[-1] == "close"
        assert stage.state() == "stopped"
        assert "end of file" in stage.runner.health.reason


async def test_any_other_exception_is_a_failure_like_a_lost_connection() -> None:
    """A bug in a sensor never ends its loop."""
    async with running([ValueError("bug"), ValueError("bug"), _batch(1)]) as stage:
        await stage.pass_time(10.0)
        assert len(stage.inbox.events) == 1
        assert [str(error) for error in stage.witness.errors] == ["bug", "bug"]


async def test_a_failing_ack_is_told_and_loses_nothing() -> None:
    """The batch is durable; the source will redeliver and the ids drop it."""

    async def fail() -> None:
        raise OSError("broker gone")

    async with running([Batch(events=(make_event(1),), ack=fail), _batch(2)]) as stage:
        assert [event.id for event in stage.inbox.events] == ["id-1", "id-2"]
        assert [str(error) for error in stage.witness.errors] == ["broker gone"]


async def test_a_soft_stop_gives_up_the_wait_and_closes() -> None:
    """A read that waits is given up at once."""
    async with running() as stage:
        stage.runner.stop()
        await asyncio.wait_for(stage.task, 1.0)
        assert stage.sensor.log == ["connect", "read", "close"]
        assert stage.state() == "stopped"


async def test_a_soft_stop_finishes_the_batch_in_hand() -> None:
    """What was read is made durable and acknowledged before the loop ends, even while the store is away."""
    acks: list[int] = []
    async with running() as stage:
        stage.inbox.failures = [Unavailable("gone", 5.0)]
        stage.sensor.add(_batch(1, acks), _batch(2, acks))
        await settle()
        stage.runner.stop()
        await settle()
        assert not stage.task.done()
        await stage.pass_time(5.0)
        await asyncio.wait_for(stage.task, 1.0)

        assert acks == [1]
        assert stage.sensor.log[-1] == "close"


async def test_a_hard_stop_closes_and_acknowledges_nothing() -> None:
    """Cancelling ends the loop although the store is away; the batch is neither stored nor acknowledged."""
    acks: list[int] = []
    async with running() as stage:
        stage.inbox.failures = [Unavailable("gone", 5.0)] * 100
        stage.sensor.add(_batch(1, acks))
        await settle()
        stage.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stage.task

        assert acks == []
        assert stage.sensor.log[-1] == "close"
        assert stage.state() == "stopped"


async def test_hold_stops_reading_and_resume_goes_on_from_the_durable_position() -> None:
    """On hold the source is let go; what comes meanwhile is read after resuming."""
    async with running([_batch(1)]) as stage:
        stage.runner.pause("hold")
        await settle()
        assert stage.sensor.log[-1] == "close"
        assert stage.state() == "paused"
        assert stage.runner.health.pause == "hold"
        stage.sensor.add(_batch(2))
        await stage.pass_time(1000.0)
        assert len(stage.inbox.events) == 1

        stage.runner.resume()
        await settle()
        assert [event.id for event in stage.inbox.events] == ["id-1", "id-2"]
        assert stage.sensor.seen_cursors[-1] == {"": Cursor("", "1")}
        assert stage.state() == "healthy"
        assert stage.witness.states == ["healthy", "paused", "starting", "healthy"]


async def test_standing_by_reads_nothing_and_says_who_does() -> None:
    """While another process reads, the source is let go; afterwards the sensor goes on from the durable position."""
    async with running([_batch(1)]) as stage:
        stage.runner.stand_by("read by host-2")
        await settle()
        assert (stage.state(), stage.runner.health.reason) == ("standby", "read by host-2")
        assert stage.sensor.log[-1] == "close"
        stage.runner.stand_by("read by host-3")
        stage.runner.poll()
        stage.sensor.add(_batch(2))
        await stage.pass_time(1000.0)
        assert stage.runner.health.reason == "read by host-3"
        assert len(stage.inbox.events) == 1

        stage.runner.stand_by(None)
        await settle()
        assert [event.id for event in stage.inbox.events] == ["id-1", "id-2"]
        assert stage.sensor.seen_cursors[-1] == {"": Cursor("", "1")}
        assert stage.witness.states == ["healthy", "standby", "starting", "healthy"]
        assert stage.witness.changes == []


async def test_a_pause_goes_before_standing_by() -> None:
    """What an operator said is shown, whoever reads; resumed, the sensor stands by again."""
    async with running() as stage:
        stage.runner.stand_by("read by host-2")
        stage.runner.pause("hold")
        await settle()
        assert stage.state() == "paused"
        stage.runner.resume()
        await settle()
        assert (stage.state(), stage.runner.health.reason) == ("standby", "read by host-2")


async def test_drop_moves_the_position_and_counts() -> None:
    """While dropping, events are counted and not stored, and their cursor and memory are."""
    acks: list[int] = []
    seen = SeenObject("k", "t", 0, "present", 1, 1)
    async with running() as stage:
        stage.runner.pause("drop")
        assert stage.state() == "paused"
        stage.sensor.add(_batch(1, acks), Batch(events=(make_event(2),), seen=(seen,)))
        await settle()
        assert stage.inbox.events == []
        assert stage.inbox.counts == {"dropped": 2}
        assert await stage.inbox.cursors("s") == {"": Cursor("", "1")}
        assert await stage.inbox.lookup("s").seen(["k"]) == {"k": seen}
        assert acks == [1]
        assert stage.state() == "paused"

        stage.runner.resume()
        stage.sensor.add(_batch(3))
        await settle()
        assert [event.id for event in stage.inbox.events] == ["id-3"]


async def test_poll_asks_the_sensor_and_ends_a_backoff() -> None:
    """`poll now` reaches a sensor that polls, and cuts a wait short."""
    async with running(connects=[NotConnected("down")] * 2, settings=RunnerSettings(backoff=50.0)) as stage:
        stage.runner.poll()
        await settle()
        assert stage.sensor.polls == 1
        assert stage.sensor.log.count("connect") == 2


async def test_a_sensor_may_say_that_it_is_unwell_while_it_reads() -> None:
    """`trouble` makes it unhealthy with its sentence, until it is over."""
    async with running([Batch()]) as stage:
        stage.sensor.problem = "one folder cannot be read"
        stage.sensor.add(Batch(), Batch())
        await settle()
        assert stage.state() == "unhealthy"
        assert stage.runner.health.reason == "one folder cannot be read"
        stage.sensor.problem = None
        stage.sensor.add(Batch())
        await settle()
        assert stage.state() == "healthy"
        assert stage.witness.changes == [False, True]


async def test_the_clock_is_left_without_sleepers() -> None:
    """The loop leaves no timers behind."""
    async with running([_batch(n) for n in range(20)]) as stage:
        stage.runner.stop()
        await asyncio.wait_for(stage.task, 1.0)
        assert stage.clock.sleeping == 0
