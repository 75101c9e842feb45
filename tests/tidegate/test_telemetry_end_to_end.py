"""Telemetry over a real OTLP receiver: one trace from the sender's request to the task, links that survive restarts."""

import asyncio
import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.model import Telemetry
from sensors.w3c import parse_traceparent
from tests.support.otlp import OtlpReceiver, Seen, otlp_receiver
from tests.support.running import load, running

REMOTE_TRACE, REMOTE_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{REMOTE_TRACE}-{REMOTE_SPAN}-01"
TEXT = """
service: {name: svc, store: "sqlite:///store.db", dispatch: {poll: 100ms}}
sensors:
  signed:
    kind: webhook
    path: /hooks/in
    verify: {scheme: hmac, header: X-Signature, algorithm: sha256, secret: "${env:S:-secret}"}
  open: {kind: webhook, path: /hooks/open, verify: none}
triggers:
  all: {on: [{sensor: signed}, {sensor: open}], run: {pipeline: p}}
pipelines:
  p:
    tasks:
      work: {engine: command, argv: [sh, -c, "echo $TRACEPARENT > traceparent"], cwd: "."}
"""
CHAIN = ("POST /hooks/in", "process signed", "evaluate all", "trigger p", "RUN p", "work")


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


def _signed(body: bytes, traceparent: str = TRACEPARENT) -> dict[str, str]:
    return {"x-signature": hmac.new(b"secret", body, hashlib.sha256).hexdigest(), "traceparent": traceparent}


def _telemetry(otlp: OtlpReceiver) -> Telemetry:
    return Telemetry(endpoint=otlp.url)


async def _named(otlp: OtlpReceiver, names: tuple[str, ...]) -> list[Seen]:
    """Wait until each of these spans has arrived; return them in the order of the names."""
    await asyncio.to_thread(otlp.wait, lambda here: set(names) <= {span.name for span in here.spans})
    return [otlp.named(name) for name in names]


async def test_a_verified_sender_s_trace_goes_on_to_the_task(tmp_path: Path, otlp: OtlpReceiver) -> None:
    """SERVER → process → evaluate → trigger → RUN → task are one trace, the sender's, with all links."""
    config = await load(tmp_path, TEXT, store="memory:", telemetry=_telemetry(otlp))
    async with running(config) as gate:
        assert (await gate.post(headers=_signed(b"{}"))).status == 202
        await gate.finished(1)
    server, process, evaluate, trigger, run, task = await _named(otlp, CHAIN)

    spans = (server, process, evaluate, trigger, run, task)
    assert {span.trace_id for span in spans} == {REMOTE_TRACE}
    assert [span.parent_id for span in spans] == [
        REMOTE_SPAN, server.span_id, process.span_id, evaluate.span_id, trigger.span_id, run.span_id,
    ]  # fmt: skip
    assert [span.kind for span in spans] == ["SERVER", "CONSUMER", "INTERNAL", "PRODUCER", "SERVER", "INTERNAL"]
    assert server.links == ()
    assert process.links == (REMOTE_SPAN,)
    assert process.span_id in evaluate.links
    assert process.span_id in trigger.links
    assert trigger.span_id in run.links
    assert not any(span.error for span in spans)


async def test_the_command_is_handed_its_context(tmp_path: Path, otlp: OtlpReceiver) -> None:
    """The program of a task finds the trace in its environment, below the task's own span."""
    config = await load(tmp_path, TEXT, store="memory:", telemetry=_telemetry(otlp))
    async with running(config) as gate:
        await gate.post(headers=_signed(b"{}"))
        await gate.finished(1)
    (task,) = await _named(otlp, ("work",))
    handed = parse_traceparent((tmp_path / "traceparent").read_text().strip())

    assert handed is not None
    assert (handed.trace_id, handed.span_id) == (REMOTE_TRACE, task.span_id)


async def test_an_unverified_sender_is_linked_and_not_adopted(tmp_path: Path, otlp: OtlpReceiver) -> None:
    """Where nobody is verified, the trace is our own; the sender's is linked by the request and by the event."""
    config = await load(tmp_path, TEXT, store="memory:", telemetry=_telemetry(otlp))
    async with running(config) as gate:
        await gate.post("/hooks/open", headers={"traceparent": TRACEPARENT})
        await gate.finished(1)
    server, process, run = await _named(otlp, ("POST /hooks/open", "process open", "RUN p"))

    assert server.trace_id != REMOTE_TRACE
    assert {server.trace_id, process.trace_id, run.trace_id} == {server.trace_id}
    assert (server.parent_id, server.links, process.links) == ("", (REMOTE_SPAN,), (REMOTE_SPAN,))


@pytest.mark.parametrize("flags", ["01", "00"])
async def test_a_sender_who_fails_to_prove_himself_joins_no_trace(
    tmp_path: Path, otlp: OtlpReceiver, flags: str
) -> None:
    """A wrong signature is a span of our own: its sender neither enters a trace nor decides about sampling."""
    config = await load(tmp_path, TEXT, store="memory:", telemetry=_telemetry(otlp))
    headers = {**_signed(b"other"), "traceparent": TRACEPARENT[:-2] + flags}
    async with running(config) as gate:
        assert (await gate.post(headers=headers)).status == 401
    (server,) = await _named(otlp, ("POST /hooks/in",))

    assert server.trace_id != REMOTE_TRACE
    assert (server.parent_id, server.links) == ("", (REMOTE_SPAN,))


async def test_a_restart_between_event_and_run_keeps_the_trace(tmp_path: Path, otlp: OtlpReceiver) -> None:
    """A run that another process executes later stands below the creation context that was stored with its event."""
    parked = await load(tmp_path, TEXT.replace("  p:\n", "  p:\n    concurrency: 1\n"), telemetry=_telemetry(otlp))
    async with running(parked, patience=0.1) as gate:
        gate.service._parts.dispatcher._claiming = _Never()  # type: ignore[assignment]
        await gate.post(headers=_signed(b"{}"))
        (queued,) = await gate.runs()
    before = {span.name: span for span in otlp.spans}
    async with running(parked) as gate:
        (done,) = await gate.finished(1)
    run, task = await _named(otlp, ("RUN p", "work"))

    assert (queued["state"], done["state"]) == ("queued", "succeeded")
    assert "RUN p" not in before
    assert run.parent_id == before["trigger p"].span_id
    assert run.trace_id == REMOTE_TRACE
    assert before["trigger p"].span_id in run.links
    assert task.parent_id == run.span_id


class _Never:
    """A lock that nobody gets."""

    def locked(self) -> bool:
        return True

    async def __aenter__(self) -> None:
        await asyncio.Event().wait()

    async def __aexit__(self, *_: object) -> None:
        """Nobody is here."""


async def test_a_held_event_keeps_its_trace(tmp_path: Path, otlp: OtlpReceiver) -> None:
    """A run that was held by a paused trigger stands in the trace of the request, whenever it is let go."""
    config = await load(tmp_path, TEXT, telemetry=_telemetry(otlp))
    async with running(config) as gate:
        await gate.service.pause_trigger("all", "hold")
        await gate.post(headers=_signed(b"{}"))
    async with running(config) as gate:
        await gate.service.pause_trigger("all", None)
        await gate.finished(1)
    server, process, trigger, run = await _named(otlp, ("POST /hooks/in", "process signed", "trigger p", "RUN p"))

    assert {span.trace_id for span in (server, process, trigger, run)} == {REMOTE_TRACE}
    assert process.span_id in trigger.links
    assert trigger.span_id in run.links
    assert sum(span.name == "process signed" for span in otlp.spans) == 1
