"""The gate of push sensors: nothing is answered before it is durable, and whose fault it was."""

from collections.abc import Sequence

import pytest

from sensors.batch import Batch
from sensors.errors import Refused
from sensors.ports import Overloaded, Unavailable
from sensors.push import PushGate
from sensors.sensor import Request
from sensors.testing import FakeInbox, VirtualClock, make_request
from tests.support.sensors import Witness, make_event


class _Receiver:
    """Answers each request with one event, or raises what it is given."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.acks = 0

    async def receive(self, request: Request) -> Batch:
        if self.error is not None:
            raise self.error

        async def ack() -> None:
            self.acks += 1

        return Batch(events=(make_event(1),), ack=ack)

    def answer(self, receipts: Sequence[tuple[str, bool]]) -> bytes | None:
        return None


def _gate() -> tuple[PushGate, _Receiver, FakeInbox, Witness]:
    receiver, inbox, witness = _Receiver(), FakeInbox(), Witness()
    gate = PushGate("s", receiver, inbox, VirtualClock(), witness)
    gate.open()
    return gate, receiver, inbox, witness


async def test_a_request_is_durable_before_the_gate_answers() -> None:
    """The receipt names the stored event; a repeat is told as one and acknowledged all the same."""
    gate, receiver, inbox, _ = _gate()
    _, first = await gate.receive(make_request())
    _, second = await gate.receive(make_request())

    assert [event.id for event in inbox.events] == ["id-1"]
    assert [receipt.duplicate for receipt in (*first.receipts, *second.receipts)] == [False, True]
    assert receiver.acks == 2
    assert gate.health.events == 2
    assert gate.health.state == "healthy"


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (Unavailable("disk full", 0.2), 503, "1"),
        (Overloaded("too much", 2.5), 429, "3"),
        (RuntimeError("bug"), 503, "5"),
    ],
)
async def test_our_own_faults_are_never_the_senders(error: Exception, status: int, retry_after: str) -> None:
    """A store that cannot accept is 503 or 429 with Retry-After, and nothing is acknowledged."""
    gate, receiver, inbox, _ = _gate()
    inbox.failures = [error]
    with pytest.raises(Refused) as refused:
        await gate.receive(make_request())

    assert refused.value.status == status
    assert refused.value.headers == {"retry-after": retry_after}
    assert receiver.acks == 0
    assert inbox.events == []


async def test_a_bug_in_a_sensor_is_our_fault() -> None:
    """An unexpected exception while reading is 503, and makes the sensor unhealthy when it lasts."""
    gate, receiver, _, witness = _gate()
    receiver.error = ValueError("bug")
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await gate.receive(make_request())
        assert refused.value.status == 503
    assert gate.health.state == "unhealthy"
    receiver.error = None
    await gate.receive(make_request())
    assert witness.changes == [False, True]


async def test_a_refused_sender_does_not_make_the_sensor_ill() -> None:
    """Forged requests are told to the observer and change no health."""
    gate, receiver, _, witness = _gate()
    receiver.error = Refused(401, "unverified", "forged")
    for _ in range(5):
        with pytest.raises(Refused) as refused:
            await gate.receive(make_request())
        assert refused.value.status == 401
    assert gate.health.state == "healthy"
    assert len(witness.errors) == 5


async def test_an_overload_does_not_make_the_sensor_ill() -> None:
    """Senders that come too fast are told so; the sensor works, and its health does not flutter with every refusal."""
    gate, _, inbox, witness = _gate()
    for _ in range(5):
        inbox.failures = [Overloaded("too much")] * 3
        for _ in range(3):
            with pytest.raises(Refused) as refused:
                await gate.receive(make_request())
            assert refused.value.status == 429
        await gate.receive(make_request())
    assert gate.health.state == "healthy"
    assert witness.changes == []
    assert len(witness.errors) == 15


async def test_hold_sends_senders_away_for_now() -> None:
    """On hold, before opening and after stopping the answer is 503 with Retry-After."""
    gate, _, inbox, _ = _gate()
    gate.pause("hold")
    with pytest.raises(Refused, match="takes nothing now") as refused:
        await gate.receive(make_request())
    assert refused.value.status == 503
    assert "retry-after" in refused.value.headers
    gate.resume()
    await gate.receive(make_request())
    gate.stop()
    with pytest.raises(Refused):
        await gate.receive(make_request())
    assert len(inbox.events) == 1


async def test_drop_counts_and_accepts() -> None:
    """While dropping, senders see success, events are counted and not stored."""
    gate, _, inbox, _ = _gate()
    gate.pause("drop")
    _, stored = await gate.receive(make_request())

    assert stored.receipts == []
    assert inbox.events == []
    assert inbox.counts == {"dropped": 1}
    assert gate.health.state == "paused"
