"""The public door over a real store: every status that a sender can see, and what it means for what is stored."""

import asyncio
import hashlib
import hmac
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import HANG_UP, Running, load, running, until

TEXT = """
service:
  name: svc
  store: sqlite:///store.db
  limits: {body: 1KiB, header_bytes: 2KiB, read_timeout: 200ms, backlog: 8}
sensors:
  open: {kind: webhook, path: /hooks/in, verify: none}
  signed:
    kind: webhook
    path: /hooks/signed
    verify: {scheme: hmac, header: X-Signature, algorithm: sha256, secret: "${env:S:-secret}"}
  keyed: {kind: webhook, path: /hooks/keyed, verify: none, id: body.id, methods: [POST, PUT]}
  waits: {kind: webhook, path: /hooks/held, verify: none, paused: hold}
  drops: {kind: webhook, path: /hooks/dropped, verify: none, paused: drop}
triggers:
  all: {on: {sensor: keyed}, run: {pipeline: p, key: event.id}}
pipelines:
  p: {engine: command, argv: ["true"]}
"""
Open = Callable[..., Any]


class Halt:
    """A fail point that keeps the store's writer where it is until it is let go."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._go.set()
        self.stopped = threading.Event()

    def stop(self) -> None:
        self._go.clear()

    def go(self) -> None:
        self._go.set()

    def __call__(self, name: str) -> None:
        if name == "store.before_commit" and not self._go.is_set():
            self.stopped.set()
            assert self._go.wait(20)


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def make(store: str | None = "memory:", **fields: Any) -> Running:
            config = await load(tmp_path, TEXT, store=store)
            return await stack.enter_async_context(running(config, **fields))

        yield make


def _signed(body: bytes, secret: bytes = b"secret") -> dict[str, str]:
    return {"x-signature": hmac.new(secret, body, hashlib.sha256).hexdigest()}


async def test_what_is_accepted_is_stored(opened: Open) -> None:
    """202 names the event's uid, and the event is there with the very bytes that were sent."""
    gate = await opened()
    answer = await gate.post("/hooks/signed", b'{"a": 1}', _signed(b'{"a": 1}'))
    (receipt,) = answer.json["events"]
    event = await gate.service.store.read(lambda reader: reader.event(receipt["event"]))

    assert answer.status == 202
    assert receipt["duplicate"] is False
    assert (event.data, event.trusted, event.sensor) == (b'{"a": 1}', True, "signed")


@pytest.mark.parametrize(
    ("path", "ask", "status", "header"),
    [
        pytest.param("/hooks/none", {}, 404, None, id="no such path"),
        pytest.param("/hooks/in/", {}, 404, None, id="almost a path"),
        pytest.param("/hooks/in", {"method": "GET"}, 405, ("allow", "POST"), id="a method that is not taken"),
        pytest.param("/hooks/keyed", {"method": "GET"}, 405, ("allow", "POST, PUT"), id="several that are"),
        pytest.param("/hooks/signed", {}, 401, None, id="no signature"),
        pytest.param("/hooks/signed", {"headers": _signed(b"{}", b"wrong")}, 401, None, id="a wrong signature"),
        pytest.param("/hooks/signed", {"headers": {"x-signature": "é"}}, 401, None, id="no signature at all"),
        pytest.param("/hooks/in", {"body": b" " * 1025}, 413, None, id="declared too large"),
        pytest.param("/hooks/in", {"body": [b" " * 600] * 2}, 413, None, id="too large in chunks"),
        pytest.param("/hooks/in", {"body": [b" " * 1025]}, 413, None, id="too large in one chunk"),
        pytest.param("/hooks/in", {"headers": {"content-length": "99999999"}}, 413, None, id="declares too much"),
        pytest.param("/hooks/in", {"headers": {"content-type": "image/png"}}, 415, None, id="a type not taken"),
        pytest.param("/hooks/in", {"headers": {"x-long": "a" * 2048}}, 431, None, id="headers too large"),
        pytest.param("/hooks/held", {}, 503, ("retry-after", "60"), id="held by an operator"),
    ],
)
async def test_what_is_refused_is_not_stored(
    opened: Open, path: str, ask: dict[str, Any], status: int, header: tuple[str, str] | None
) -> None:
    """Every refusal has its own status, is told as a problem, and leaves no event."""
    gate = await opened()
    answer = await gate.post(path, **ask)

    assert answer.status == status
    assert answer.json["status"] == status
    assert header is None or answer.headers[header[0]] == header[1]
    assert await gate.events() == []
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("length", ["²", "-1", "1e3", ""])
async def test_a_length_that_is_no_number_is_not_our_fault(opened: Open, length: str) -> None:
    """What a sender writes into Content-Length can never make a 5xx; the bytes that come are counted."""
    gate = await opened()

    assert (await gate.post(body=[b"{}"], headers={"content-length": length})).status == 202


async def test_a_body_just_at_the_cap_is_taken(opened: Open) -> None:
    """The cap itself is allowed, in one piece and in many."""
    gate = await opened()
    whole = b'"' + b"a" * 1022 + b'"'

    assert (await gate.post(body=whole)).status == 202
    assert (await gate.post(body=[whole[:1], whole[1:1000], whole[1000:], b""])).status == 202


async def test_a_dropping_sensor_says_yes_and_stores_nothing(opened: Open) -> None:
    """`paused: drop` answers 202 and counts what it drops."""
    gate = await opened()
    answer = await gate.post("/hooks/dropped")

    assert (answer.status, answer.json) == (202, {"events": []})
    assert await gate.events() == []
    counts = await gate.service.store.read(lambda reader: reader.counts("sensor"))
    assert counts["drops", "dropped"] == 1


async def test_equal_deliveries_at_once_are_one_event(opened: Open) -> None:
    """Of equal deliveries at the same moment one is new; all are answered 202 with its uid; one run starts."""
    gate = await opened()
    answers = await asyncio.gather(*(gate.post("/hooks/keyed", b'{"id": "x"}') for _ in range(6)))
    (run,) = await gate.finished(1)

    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["events"][0]["event"] for answer in answers}) == 1
    assert sorted(answer.json["events"][0]["duplicate"] for answer in answers) == [False] + [True] * 5
    assert run["state"] == "succeeded"


@pytest.mark.parametrize("sent", [[None], [b"{", None]], ids=["nothing", "a beginning"])
async def test_a_slow_body_is_cut(opened: Open, sent: list[Any]) -> None:
    """A sender that does not send its body in time gets 408 and its connection is closed; nothing is stored."""
    gate = await opened()
    answer = await gate.post(body=sent)

    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert await gate.events() == []


async def test_a_body_that_drips_is_cut_too(opened: Open) -> None:
    """The time is for the whole body: sending a byte now and then does not buy more of it."""
    gate = await opened()

    async def drip() -> None:
        await asyncio.sleep(0.03)

    class Drops(list[Any]):
        """A body that never ends: a byte, then a pause."""

    drops = Drops([part for _ in range(400) for part in (None, b" ")])
    answer = await gate.post(body=drops, wait=drip)

    assert answer.status == 408


@pytest.mark.parametrize("sent", [[HANG_UP], [b"{", HANG_UP]])
async def test_a_sender_that_hangs_up_stores_nothing(opened: Open, sent: list[Any]) -> None:
    """A request that is not whole leaves nothing, and nobody is answered."""
    gate = await opened()
    answer = await gate.post(body=sent)

    assert answer.status == 0
    assert await gate.events() == []


async def test_a_full_backlog_is_429(opened: Open) -> None:
    """When more waits for a commit than may, senders are asked to slow down; what was accepted is stored, once."""
    halt = Halt()
    gate = await opened(fail_point=halt)
    halt.stop()
    first = asyncio.ensure_future(gate.post())
    await until(halt.stopped.is_set)
    waiting = [asyncio.ensure_future(gate.post()) for _ in range(20)]
    await until(lambda: sum(task.done() for task in waiting) >= 12)
    refused = [task.result() for task in waiting if task.done()]
    halt.go()
    answers = [await task for task in (first, *waiting)]

    assert {answer.status for answer in refused} == {429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    accepted = [answer for answer in answers if answer.status == 202]
    assert {answer.status for answer in answers} == {202, 429}
    assert len(accepted) <= 8
    assert {row["uid"] for row in await gate.events()} == {answer.json["events"][0]["event"] for answer in accepted}
    assert (await gate.post()).status == 202


async def test_a_locked_store_is_503_and_recovers(tmp_path: Path) -> None:
    """While another connection locks the file, senders get 503 with Retry-After; then nothing is lost."""
    store = f"sqlite:///{tmp_path / 'store.db'}?busy_timeout=0.05"
    async with running(await load(tmp_path, TEXT, store=store)) as gate:
        assert (await gate.post("/hooks/keyed", b'{"id": "before"}')).status == 202
        await gate.finished(1)
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        locked = [await gate.post("/hooks/keyed", b'{"id": "during"}') for _ in range(3)]
        not_ready = gate.service.ready()
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: gate.service.ready()[0])
        again = [await gate.post("/hooks/keyed", b'{"id": "during"}') for _ in range(2)]
        await gate.finished(2)

        assert {answer.status for answer in locked} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in locked)
        assert not_ready[0] is False
        assert "lock" in not_ready[1]
        assert [answer.json["events"][0]["duplicate"] for answer in again] == [False, True]
        assert [row["id"] for row in await gate.events(sensor="keyed")] == ["before", "during"]


async def test_a_stopping_door_is_503(tmp_path: Path) -> None:
    """Once the service drains, nothing is accepted any more, with a Retry-After for the next one."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await gate.service._parts.fleet.stop(1.0)
        answer = await gate.post()

        assert (answer.status, "retry-after" in answer.headers) == (503, True)


async def test_refusals_are_kept_for_operators(opened: Open) -> None:
    """The last refusals of an endpoint are there with their reason, newest first, bounded, and without secrets."""
    gate = await opened()
    for n in range(60):
        await gate.post("/hooks/signed", b"{}", {"x-signature": f"hunter{n}"})
    await gate.post("/hooks/signed", method="GET")
    last = gate.service.refusals.last("signed")

    assert len(last) == 50
    assert (last[0].status, last[1].status) == (405, 401)
    assert not any("hunter" in refusal.reason for refusal in last)
    assert sum(gate.service.refusals.counts.values()) == 61


async def test_a_fault_of_our_own_is_503_not_4xx(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks inside, the sender is told to try again, and the operator what it was."""
    gate = await opened()
    endpoint = gate.webhooks.endpoints["/hooks/in"]

    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(endpoint.gate, "receive", broken, raising=True)
    answer = await gate.post()

    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert "oops" in gate.service.refusals.last("open")[0].reason
    assert b"oops" not in answer.body
