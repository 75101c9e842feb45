"""Golden span trees, exported for real, and what happens when nobody takes them."""

import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from config.model import Telemetry
from pipelines.run import RunState, TaskState
from sensors.batch import Batch
from sensors.ports import Receipt, Stored
from sensors.w3c import child_of, new_root
from tests.support.otlp import OtlpReceiver, closed_port, otlp_receiver, until
from tests.support.telemetry_rows import (
    NOW,
    OTHER_TRACE,
    TRACE,
    context,
    decision,
    run,
    stored_event,
    task_run,
    trigger_event,
)
from tidegate.absorb import Facts
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.metrics import Metrics
from tidegate.telemetry.model import Shape, SpanKind, sampled
from tidegate.telemetry.observers import PipelineObserver, SensorObserver
from tidegate.telemetry.projection import project
from tidegate.telemetry.spans import ExportedTracing, open_tracing
from tidegate.telemetry.tracing import Tracing
from tidegate.telemetry.worker import QUEUE

REMOTE = context(0xCAFE, "c" * 32, "01")


class FixedClock:
    """A clock that stands still."""

    def now(self) -> int:
        return NOW + 2_000_000

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("telemetry never waits on the loop")


@contextmanager
def opened(
    endpoint: str | None, *, environ: dict[str, str] | None = None, **config: Any
) -> Iterator[tuple[Tracing, Instruments]]:
    """Open tracing as the house does."""
    metrics = Metrics()
    tracing = open_tracing(
        Telemetry(endpoint=endpoint, **config), "orders-gate", "0.1.0", "test", metrics=metrics, environ=environ or {}
    )
    tracing.sensors({"github": Shape(SpanKind.CONSUMER, "webhook")})
    try:
        yield tracing, Instruments(metrics)
    finally:
        tracing.close(0.5)


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as made:
        yield made


def test_one_webhook_to_its_task_is_one_trace(receiver: OtlpReceiver) -> None:
    """Request, process, evaluate, trigger, RUN and task form one trace, with a link from each cause to its effect."""
    stored = stored_event(1, context(2), traceparent=REMOTE)
    uid = stored.event.uid
    facts = Facts(
        events=[stored],
        parents={uid: context(1)},
        decisions=[decision([uid], context(3), trigger_event="trg_1", run="run_1")],
        trigger_events=[trigger_event([uid], context(4))],
        runs=[run([uid], context(4), context(5))],
    )
    with opened(receiver.url) as (tracing, instruments):
        observer = PipelineObserver(tracing, instruments, FixedClock())
        tracing.request("/hooks/github", "POST", 202, NOW * 1000, NOW * 1000 + 5, context(1), None, REMOTE)
        project(facts, tracing, instruments, NOW + 15_000)
        observer.run_started(facts.runs[0])
        observer.task_ended(facts.runs[0], task_run(context(6)))
        observer.run_ended(facts.runs[0], RunState.SUCCEEDED)
        assert tracing.flush(5)

    spans = receiver.wait_trace(TRACE, 6)
    assert receiver.tree() == {
        "POST /hooks/github": None,
        "process github": "POST /hooks/github",
        "evaluate pushed": "process github",
        "trigger orders": "evaluate pushed",
        "RUN orders": "trigger orders",
        "load": "RUN orders",
    }
    remote, process, creation = f"{0xCAFE:016x}", f"{2:016x}", f"{4:016x}"
    assert {span.name: span.links for span in spans} == {
        "POST /hooks/github": (remote,),
        "process github": (remote,),
        "evaluate pushed": (process,),
        "trigger orders": (process,),
        "RUN orders": (creation,),
        "load": (),
    }
    assert {span.name: span.kind for span in spans} == {
        "POST /hooks/github": "SERVER",
        "process github": "CONSUMER",
        "evaluate pushed": "INTERNAL",
        "trigger orders": "PRODUCER",
        "RUN orders": "SERVER",
        "load": "INTERNAL",
    }
    assert (receiver.named("RUN orders").start, receiver.named("RUN orders").end) == (
        (NOW + 30_000) * 1000,
        (NOW + 1_030_000) * 1000,
    )
    assert receiver.named("process github").end == (NOW + 15_000) * 1000
    resource = receiver.named("load").resource
    assert (resource["service.name"], resource["service.version"], resource["service.instance.id"]) == (
        "orders-gate",
        "0.1.0",
        "test",
    )


def test_a_run_of_several_events_starts_its_own_trace(receiver: OtlpReceiver) -> None:
    """Evaluation and RUN of several events are roots; trigger and links lead to every event, also to earlier ones."""
    first, second = stored_event(1, context(2)), stored_event(2, context(3, OTHER_TRACE))
    uids = [first.event.uid, second.event.uid]
    own, runs_own = "d" * 32, "e" * 32
    facts = Facts(
        events=[second],
        decisions=[decision(uids, context(4, own), trigger_event="trg_1")],
        trigger_events=[trigger_event(uids, context(5, own))],
        runs=[run(uids, context(5, own), context(6, runs_own))],
    )
    with opened(receiver.url) as (tracing, instruments):
        project(facts, tracing, instruments, NOW + 15_000, known={uids[0]: context(2)})
        tracing.run(facts.runs[0], [context(2), context(3, OTHER_TRACE)])
        assert tracing.flush(5)

    receiver.wait(lambda here: len(here.spans) == 4)
    assert receiver.tree() == {
        "process github": None,
        "evaluate pushed": None,
        "trigger orders": "evaluate pushed",
        "RUN orders": None,
    }
    both = (f"{2:016x}", f"{3:016x}")
    assert receiver.named("evaluate pushed").links == both
    assert receiver.named("trigger orders").links == both
    assert receiver.named("RUN orders").links == (f"{5:016x}", *both)


def test_a_replayed_run_is_a_root_and_leads_to_what_it_replays(receiver: OtlpReceiver) -> None:
    """RUN and evaluation of a replay are roots; the creation context links to the event and to the run before."""
    uid = stored_event(1, context(2)).event.uid
    own, runs_own = "d" * 32, "e" * 32
    facts = Facts(
        decisions=[decision([uid], context(4, own), trigger_event="trg_1")],
        trigger_events=[trigger_event([uid], context(5, own))],
        runs=[run([uid], context(5, own), context(6, runs_own))],
        known={uid: context(2)},
        replays={"trg_1": context(9)},
    )
    with opened(receiver.url) as (tracing, instruments):
        project(facts, tracing, instruments, NOW + 15_000, facts.known)
        PipelineObserver(tracing, instruments, FixedClock()).run_ended(facts.runs[0], RunState.SUCCEEDED)
        assert tracing.flush(5)

    receiver.wait(lambda here: len(here.spans) == 3)
    assert receiver.tree() == {"evaluate pushed": None, "trigger orders": "evaluate pushed", "RUN orders": None}
    assert receiver.named("trigger orders").links == (f"{2:016x}", f"{9:016x}")
    assert receiver.named("RUN orders").links == (f"{5:016x}",)


def test_a_restart_continues_where_the_rows_say(receiver: OtlpReceiver) -> None:
    """What another process recorded after a restart hangs below what the first one exported."""
    causing = run(["evt_1"], context(4), context(5))
    with opened(receiver.url) as (before, _):
        before.trigger_event(trigger_event(["evt_1"], context(4)), causing, None, [context(2)], 1, 2)
        before.flush(5)
    with opened(receiver.url) as (after, instruments):
        observer = PipelineObserver(after, instruments, FixedClock())
        observer.task_ended(causing, task_run(context(6), attempt=2))
        observer.run_ended(causing, RunState.SUCCEEDED)
        after.flush(5)

    assert receiver.tree() == {"trigger orders": None, "RUN orders": "trigger orders", "load": "RUN orders"}
    assert receiver.named("RUN orders").links == (f"{4:016x}",)


def test_failures_say_why(receiver: OtlpReceiver) -> None:
    """The kind of the failed task becomes the run's error type; a retried attempt is a failed span of its own."""
    failed = run(["evt_1"], context(4), context(5), state=RunState.RUNNING, finished_at=None)
    with opened(receiver.url) as (tracing, instruments):
        observer = PipelineObserver(tracing, instruments, FixedClock())
        observer.task_ended(
            failed, task_run(context(6), state=TaskState.RETRY_WAIT, error_kind="exit_code", task="first")
        )
        observer.task_ended(failed, task_run(context(7), state=TaskState.FAILED, error_kind="timeout", attempt=2))
        observer.task_ended(failed, task_run(None, state=TaskState.UPSTREAM_FAILED, started_at=None, task="never"))
        observer.run_ended(failed, RunState.FAILED)
        tracing.flush(5)
        text = instruments.metrics.render()

    first, load, whole = receiver.named("first"), receiver.named("load"), receiver.named("RUN orders")
    assert (first.error, first.attributes["error.type"]) == (True, "exit_code")
    assert (load.error, load.attributes["cicd.pipeline.task.run.result"]) == (True, "timeout")
    assert (whole.error, whole.attributes["cicd.pipeline.result"], whole.attributes["error.type"]) == (
        True,
        "timeout",
        "timeout",
    )
    assert whole.end == (NOW + 2_000_000) * 1000
    assert len(receiver.spans) == 3
    assert 'cicd_pipeline_run_errors_total{cicd_pipeline_name="orders",error_type="timeout"} 1' in text


def test_a_verified_senders_trace_is_joined(receiver: OtlpReceiver) -> None:
    """The SERVER span of a verified sender hangs below the sender's span and says that it is remote."""
    own = child_of(REMOTE)
    with opened(receiver.url) as (tracing, _):
        tracing.request("/hooks/github", "POST", 202, 1, 2, own, REMOTE)
        tracing.flush(5)

    (span,) = receiver.spans
    assert (span.trace_id, span.parent_id) == ("c" * 32, f"{0xCAFE:016x}")
    assert span.flags & 0x300 == 0x300


def test_only_sampled_contexts_are_exported(receiver: OtlpReceiver) -> None:
    """Contexts without the sampled flag, and rows without a context, make no span and count as nothing."""
    dark = context(1, flags="02")
    with opened(receiver.url) as (tracing, _):
        tracing.request("/x", "POST", 202, 1, 2, dark)
        tracing.event(stored_event(1, dark), 1, 2)
        tracing.event(stored_event(1, None), 1, 2)
        tracing.decision(decision(["e"], dark), None, (), 1, 2)
        tracing.decision(decision(["e"], None), None, (), 1, 2)
        tracing.trigger_event(trigger_event(["e"], None), None, None, (), 1, 2)
        tracing.trigger_event(None, None, None, (), 1, 2)
        tracing.run(run(["e"], dark, dark))
        tracing.run(run(["e"], None, None))
        tracing.task(run(["e"], dark, dark), task_run(dark))
        tracing.poll("github", 0, 1, 2, context(9))
        tracing.poll("github", 3, 1, 2, dark)
        tracing.poll("github", 3, 1, 2, context(9))
        assert tracing.flush(5)

    assert [span.name for span in receiver.spans] == ["poll github"]
    assert tracing.tally.dropped == 0


def test_a_run_by_hand_has_its_creation_span(receiver: OtlpReceiver) -> None:
    """A run that a person started hangs below a `trigger` span without a trigger."""
    by_hand = run([], context(1), context(2), trigger=None, trigger_event=None)
    with opened(receiver.url) as (tracing, _):
        tracing.trigger_event(None, by_hand, None, (), 1, 2)
        tracing.run(by_hand)
        tracing.flush(5)

    assert receiver.tree() == {"trigger orders": None, "RUN orders": "trigger orders"}
    assert "trigger.name" not in receiver.named("RUN orders").attributes


def test_sampling_ratio_rules_new_roots(receiver: OtlpReceiver) -> None:
    """`sample` decides about the contexts that tracing mints."""
    with opened(receiver.url, sample=0.0) as (none, _), opened(receiver.url) as (everything, _):
        assert not sampled(none.mint_root())
        assert sampled(everything.mint_root())


@pytest.mark.parametrize(
    "environ", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}]
)
def test_switched_off_means_no_thread(receiver: OtlpReceiver, environ: dict[str, str]) -> None:
    """Disabled tracing accepts everything, starts nothing and marks its contexts as not recorded."""
    tracing = open_tracing(Telemetry(endpoint=receiver.url), "s", "v", "i", environ=environ)
    tracing.event(stored_event(1, context(1)), 1, 2)
    tracing.run(run(["e"], context(1), context(2)))

    assert not tracing.enabled
    assert not any(thread.name == "telemetry" for thread in threading.enumerate())
    assert not sampled(tracing.mint_root())
    assert tracing.flush(0.1)
    assert tracing.close(0.1)


def test_no_endpoint_means_switched_off() -> None:
    """Without an endpoint anywhere, nothing is exported."""
    assert not open_tracing(Telemetry(), "s", "v", "i", environ={}).enabled


def test_the_environment_names_endpoint_headers_and_resource(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard variables are enough to export: endpoint, headers, compression, service name and attributes."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "renamed")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,team=data")
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url + "/",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=a%20b,tenant=t",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    with opened(None, environ=environ) as (tracing, _):
        tracing.request("/x", "GET", 200, 1, 2, context(1))
        tracing.flush(5)

    resource = receiver.named("GET /x").resource
    assert (resource["service.name"], resource["team"]) == ("renamed", "data")
    headers = receiver.headers[0]
    assert (headers["x-api-key"], headers["tenant"], headers["content-encoding"]) == ("a b", "t", "gzip")


def test_a_refused_batch_is_dropped_and_counted_at_once(receiver: OtlpReceiver) -> None:
    """An answer that no retry can change is final: the spans are counted as lost, later ones go through."""
    receiver.answers.append((400, {}, b""))
    with opened(receiver.url) as (tracing, instruments):
        tracing.request("/lost", "GET", 200, 1, 2, context(1))
        tracing.flush(5)
        tracing.request("/kept", "GET", 200, 1, 2, context(2))
        tracing.flush(5)
        text = instruments.metrics.render()

    assert [span.name for span in receiver.spans] == ["GET /kept"]
    assert (tracing.tally.failed, tracing.tally.exported) == (1, 1)
    assert 'tidegate_telemetry_dropped_spans_total{reason="not_delivered"} 1' in text
    assert "tidegate_telemetry_exported_spans_total 1" in text


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_receiver_is_asked_again(receiver: OtlpReceiver, status: int) -> None:
    """What may pass is tried again as Retry-After says, over the same connection, and nothing is lost or doubled."""
    receiver.answers.append((status, {"retry-after": "0"}, b""))
    with opened(receiver.url) as (tracing, _):
        tracing.request("/x", "GET", 200, 1, 2, context(1))
        receiver.wait_trace(TRACE, 1)
        until(lambda: tracing.tally.exported == 1)

    assert receiver.requests >= 2
    assert len(receiver.spans) == 1
    assert receiver.connections == 1


def test_partial_success_is_counted(receiver: OtlpReceiver) -> None:
    """Spans that an accepted request lost are counted as rejected; a body that is no protobuf changes nothing."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 1
    receiver.answers.extend([(200, {}, answer.SerializeToString()), (200, {}, b"\xff<html>")])
    with opened(receiver.url) as (tracing, _):
        for n in range(3):
            tracing.request("/x", "GET", 200, 1, 2, context(n + 1))
        tracing.flush(5)
        tracing.request("/x", "GET", 200, 1, 2, context(9))
        tracing.flush(5)
        assert (tracing.tally.exported, tracing.tally.rejected) == (3, 1)


def test_one_broken_context_fails_alone(receiver: OtlpReceiver) -> None:
    """A span that cannot be encoded is counted; its neighbours arrive."""
    with opened(receiver.url) as (tracing, _):
        tracing.request("/a", "GET", 200, 1, 2, context(1), "no traceparent at all")
        tracing.request("/b", "GET", 200, 1, 2, context(2))
        tracing.flush(5)

    assert [span.name for span in receiver.spans] == ["GET /b"]
    assert tracing.tally.invalid == 1


async def test_a_dead_collector_blocks_nobody_and_drops_are_counted() -> None:
    """With nobody listening, 60,000 spans cost the loop no waiting, the queue stays bounded, the rest is counted."""
    with opened(f"http://127.0.0.1:{closed_port()}") as (tracing, instruments):
        assert isinstance(tracing, ExportedTracing)
        stored = stored_event(1, context(1))
        for _ in range(60):
            for _ in range(1000):
                tracing.event(stored, 1, 2, None, ())
            await asyncio.sleep(0)
        assert len(tracing._queue) <= QUEUE
        assert tracing.tally.overflow >= 60_000 - 2 * QUEUE - 2_000
        started = time.monotonic()
        done = await asyncio.to_thread(tracing.flush, 0.2)
        assert not done
        assert time.monotonic() - started < 5.0
        text = instruments.metrics.render()
        assert 'tidegate_telemetry_dropped_spans_total{reason="queue_full"}' in text


def test_memory_stays_flat_with_a_dead_collector() -> None:
    """However many events with large payloads and hostile ids pass, the queue holds small records and no payload."""
    with opened(f"http://127.0.0.1:{closed_port()}") as (tracing, _):

        def feed(count: int) -> None:
            for n in range(count):
                tracing.event(stored_event(n, context(1), data=bytes(10_000), id=f"{n}" + "x" * 20_000), 1, 2)

        tracemalloc.start()
        try:
            feed(2_000)
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held < 2_000 * 3_000


def test_memory_stays_flat_over_many_exported_spans(receiver: OtlpReceiver) -> None:
    """After 12,000 spans the process holds no more than after the first 4,000."""
    receiver.keep = False

    def feed(tracing: Tracing, count: int) -> int:
        for n in range(count):
            tracing.event(stored_event(n, context(n + 1)), 1, 2, context(1))
            if n % 2_000 == 1_999:
                assert tracing.flush(10)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    with opened(receiver.url) as (tracing, _):
        tracemalloc.start()
        try:
            first = feed(tracing, 4_000)
            last = feed(tracing, 8_000)
        finally:
            tracemalloc.stop()
        assert tracing.tally.exported == 12_000
    assert last - first < 300_000


def test_spans_leave_in_order_and_in_few_requests(receiver: OtlpReceiver) -> None:
    """Many spans share a request, over one connection, in the order in which they were recorded."""
    with opened(receiver.url) as (tracing, _):
        for n in range(5_000):
            tracing.request("/x", "GET", 200, n, n, context(n + 1))
        assert tracing.flush(10)

    assert [span.start for span in receiver.spans] == list(range(5_000))
    assert receiver.requests < 40
    assert receiver.connections == 1


def test_metrics_are_exported_with_a_flush(receiver: OtlpReceiver) -> None:
    """The same thread exports all metrics, cumulative since the start."""
    with opened(receiver.url) as (tracing, instruments):
        instruments.request("/hooks/github", "POST", 202, 0.003)
        tracing.flush(5)

    (resource,) = receiver.metrics[0].resource_metrics
    metrics = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    point = metrics["http.server.request.duration"].histogram.data_points[0]
    assert (point.count, point.sum, list(point.bucket_counts)[:2]) == (1, 0.003, [1, 0])
    assert metrics["tidegate.telemetry.exported_spans"].sum.is_monotonic


def test_traces_alone_can_be_switched_off(receiver: OtlpReceiver) -> None:
    """Without a trace exporter metrics still leave."""
    with opened(receiver.url, environ={"OTEL_TRACES_EXPORTER": "none"}) as (tracing, instruments):
        tracing.request("/x", "GET", 200, 1, 2, context(1))
        instruments.brought("github", "stored", 2)
        assert tracing.flush(5)

    assert not tracing.enabled
    assert receiver.spans == []
    assert len(receiver.metrics) >= 1


def test_a_wrong_endpoint_is_told_at_start() -> None:
    """An endpoint that is no URL is a sentence, not a silent absence of traces."""
    with pytest.raises(ValueError, match=r"telemetry\.otlp\.endpoint is 'localhost:4318'.*http://127.0.0.1:4318"):
        open_tracing(Telemetry(endpoint="localhost:4318"), "s", "v", "i", environ={})


def test_observers_never_raise() -> None:
    """A mistake in telemetry does not fail the work that it watches."""
    metrics = Metrics()
    instruments = Instruments(metrics)
    broken: Any = object()
    PipelineObserver(broken, instruments, FixedClock()).run_ended(run([], None, None), RunState.SUCCEEDED)
    SensorObserver(broken).on_error("s", RuntimeError("x"))


def test_sensors_are_counted() -> None:
    """What sensors brought is counted by its fate, errors by their class."""
    metrics = Metrics()
    observer = SensorObserver(Instruments(metrics))
    batch = Batch(counts={"skipped": 7})
    observer.on_batch("github", batch, Stored((Receipt("evt_1", duplicate=False), Receipt("evt_2", duplicate=True))))
    observer.on_error("github", ConnectionError("gone"))
    text = metrics.render()

    for line in (
        'tidegate_sensor_events_total{sensor_name="github",outcome="stored"} 1',
        'tidegate_sensor_events_total{sensor_name="github",outcome="duplicate"} 1',
        'tidegate_sensor_events_total{sensor_name="github",outcome="skipped"} 7',
        'tidegate_sensor_errors_total{sensor_name="github",error_type="ConnectionError"} 1',
    ):
        assert line in text


def per_call(work: Callable[[], None], count: int) -> float:
    """Return CPU microseconds per call of this thread, the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        started = time.thread_time_ns()
        for _ in range(count):
            work()
        best = min(best, (time.thread_time_ns() - started) / count / 1000)
    return best


def test_recording_is_cheap() -> None:
    """Handing an event or a request over costs the loop's thread well below ten microseconds."""
    with opened(f"http://127.0.0.1:{closed_port()}") as (tracing, _):
        assert isinstance(tracing, ExportedTracing)
        tracing._limit = 10**9
        stored, root = stored_event(1, new_root()), new_root()

        def request() -> None:
            tracing.request("/hooks/github", "POST", 202, 1, 2, root)

        assert per_call(lambda: tracing.event(stored, 1, 2, root), 2_000) < 10
        assert per_call(request, 2_000) < 10
