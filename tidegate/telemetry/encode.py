"""Records become OTLP span bytes, and those become an export request.

Why not the SDK's spans: a `ReadableSpan` and the stock encoder cost 40-60 µs per span, most of it for building
objects that are thrown away and for encoding again, for every span, what never changes. Our spans come finished, with
known ids, from rows; nothing needs a tracer, a context stack or a processor. So the constant part of a span (name,
kind, fixed attributes, status) is built once per distinct combination with the official `opentelemetry.proto` classes
and kept as bytes, and only ids, times, links and a few own attributes are laid out per span (`wire`). What leaves is
plain OTLP protobuf.

Constant parts are kept for at most `MAX_CONSTANTS` combinations per kind of span, since some of what enters them (a
CloudEvent's type and source) comes from outside. One encoder belongs to one thread.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sensors.w3c import parse_traceparent
from tidegate.telemetry.model import Shape, SpanKind
from tidegate.telemetry.records import (
    DecisionRecord,
    EventRecord,
    PollRecord,
    Record,
    RequestRecord,
    RunRecord,
    TaskRecord,
    TriggerRecord,
)
from tidegate.telemetry.wire import MAX_TEXT, BadContext, TextAttribute, framed, ids, int_attribute, varint

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.sdk.resources import Resource

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE = "tidegate"
MAX_CONSTANTS = 1024

_times = struct.Struct("<BQBQ").pack
_Attributes = Mapping[str, str | int | bool]


class SpanEncoder:
    """Turns records into span messages. `shapes` says how events of a sensor (by name) look."""

    def __init__(self, shapes: Mapping[str, Shape], base_url: str) -> None:
        from opentelemetry.proto.trace.v1.trace_pb2 import Span

        self._shapes = shapes
        self._base_url = base_url
        self._span_class = Span
        self._constants: dict[tuple[str | int, ...], bytes] = {}
        self._table: tuple[Callable[[Any], bytes], ...] = (
            self._request,
            self._event,
            self._decision,
            self._trigger,
            self._run,
            self._task,
            self._poll,
        )
        self._event_id = TextAttribute("cloudevents.event_id").encode
        self._event_subject = TextAttribute("cloudevents.event_subject").encode
        self._event_uid = TextAttribute("tidegate.event.uid").encode
        self._decision_uid = TextAttribute("tidegate.decision.uid").encode
        self._trigger_event_uid = TextAttribute("tidegate.trigger_event.uid").encode
        self._run_id = TextAttribute("cicd.pipeline.run.id").encode
        self._run_url = TextAttribute("cicd.pipeline.run.url.full").encode
        self._run_key = TextAttribute("tidegate.run.key").encode
        self._task_id = TextAttribute("cicd.pipeline.task.run.id").encode
        self._task_url = TextAttribute("cicd.pipeline.task.run.url.full").encode
        self._partition = TextAttribute("tidegate.partition").encode

    def reshape(self, shapes: Mapping[str, Shape]) -> None:
        """Take other sensors (after a reload); the same mapping again changes nothing."""
        if shapes is not self._shapes:
            self._shapes = shapes
            self._constants.clear()

    def encode(self, record: Record) -> bytes:
        """Return one span, framed as a field of ScopeSpans. Raises BadContext for a context that is none."""
        return framed(0x12, self._table[record[0]](record))

    # -- one per kind -------------------------------------------------------------------------------------------
    def _request(self, record: RequestRecord) -> bytes:
        _, context, parent, links, start, end, method, route, status, path, scheme = record
        key = (0, method, route, status, path, scheme)
        constant = self._constants.get(key)
        if constant is None:
            attributes: dict[str, str | int | bool] = {
                "http.request.method": method,
                "http.route": route,
                "url.path": path,
                "url.scheme": scheme,
                "http.response.status_code": status,
            }
            if status >= 500:
                attributes["error.type"] = str(status)
            name = "HTTP" if method == "_OTHER" else method
            constant = self._constant(key, f"{name} {route}", SpanKind.SERVER, attributes, error=status >= 500)
        return (
            _outer_ids(context, parent, links, remote_parent=parent is not None)
            + _times(0x39, start, 0x41, end)
            + constant
        )

    def _event(self, record: EventRecord) -> bytes:
        _, context, parent, links, start, end, sensor, id_, source, type_, subject, uid, state = record
        key = (1, sensor, source, type_, state)
        constant = self._constants.get(key)
        if constant is None:
            shape = self._shapes.get(sensor) or Shape()
            attributes: dict[str, str | int | bool] = {
                "sensor.name": sensor,
                "cloudevents.event_spec_version": "1.0",
                "cloudevents.event_source": source,
                "cloudevents.event_type": type_,
                "tidegate.event.state": state,
            }
            if shape.system:
                attributes["messaging.system"] = shape.system
                attributes["messaging.operation.name"] = "process"
                attributes["messaging.operation.type"] = "process"
                attributes["messaging.destination.name"] = sensor
            constant = self._constant(key, f"process {sensor}", shape.kind, attributes)
        raw = _outer_ids(context, parent, links) + _times(0x39, start, 0x41, end) + constant
        raw += self._event_id(id_) + self._event_uid(uid)
        return raw if subject is None else raw + self._event_subject(subject)

    def _decision(self, record: DecisionRecord) -> bytes:
        _, context, parent, links, start, end, trigger, version, outcome, uid, events = record
        key = (2, trigger, version, outcome)
        constant = self._constants.get(key)
        if constant is None:
            attributes: dict[str, str | int | bool] = {
                "trigger.name": trigger,
                "trigger.version": version,
                "trigger.matched": outcome not in ("filtered", "error"),
                "trigger.outcome": outcome,
            }
            error = outcome == "error"
            if error:
                attributes["error.type"] = "evaluation_error"
            constant = self._constant(key, f"evaluate {trigger}", SpanKind.INTERNAL, attributes, error=error)
        return (
            ids(context, parent, links)
            + _times(0x39, start, 0x41, end)
            + constant
            + self._decision_uid(uid)
            + int_attribute("trigger.event_count", events)
        )

    def _trigger(self, record: TriggerRecord) -> bytes:
        _, context, parent, links, start, end, pipeline, trigger, uid, run, run_key, generation = record
        key = (3, pipeline, trigger)
        constant = self._constants.get(key)
        if constant is None:
            attributes: dict[str, str | int | bool] = {
                "cicd.pipeline.name": pipeline,
                "cicd.pipeline.action.name": "RUN",
            }
            if trigger:
                attributes["trigger.name"] = trigger
            constant = self._constant(key, f"trigger {pipeline}", SpanKind.PRODUCER, attributes)
        raw = ids(context, parent, links) + _times(0x39, start, 0x41, end) + constant
        if uid:
            raw += self._trigger_event_uid(uid)
        if run:
            raw += self._run_id(run) + self._run_key(run_key) + int_attribute("tidegate.run.generation", generation)
        return raw

    def _run(self, record: RunRecord) -> bytes:
        _, context, parent, links, start, end, pipeline, trigger, result, error_type, uid, run_key, generation = record
        key = (4, pipeline, trigger, result, error_type)
        constant = self._constants.get(key)
        if constant is None:
            attributes: dict[str, str | int | bool] = {
                "cicd.pipeline.name": pipeline,
                "cicd.pipeline.action.name": "RUN",
                "cicd.pipeline.result": result,
            }
            if trigger:
                attributes["trigger.name"] = trigger
            if error_type:
                attributes["error.type"] = error_type
            constant = self._constant(key, f"RUN {pipeline}", SpanKind.SERVER, attributes, error=bool(error_type))
        return (
            ids(context, parent, links)
            + _times(0x39, start, 0x41, end)
            + constant
            + self._run_id(uid)
            + self._run_url(f"{self._base_url}/api/v1/runs/{uid}")
            + self._run_key(run_key)
            + int_attribute("tidegate.run.generation", generation)
        )

    def _task(self, record: TaskRecord) -> bytes:
        (
            _,
            context,
            parent,
            links,
            start,
            end,
            pipeline,
            task,
            engine,
            result,
            error_type,
            run,
            uid,
            attempt,
            partition,
        ) = record
        key = (5, pipeline, task, engine, result, error_type)
        constant = self._constants.get(key)
        if constant is None:
            attributes: dict[str, str | int | bool] = {
                "cicd.pipeline.name": pipeline,
                "cicd.pipeline.task.name": task,
                "cicd.pipeline.task.run.result": result,
                "tidegate.engine": engine,
            }
            if error_type:
                attributes["error.type"] = error_type
            constant = self._constant(key, task, SpanKind.INTERNAL, attributes, error=bool(error_type))
        raw = (
            ids(context, parent, links)
            + _times(0x39, start, 0x41, end)
            + constant
            + self._task_id(uid)
            + self._task_url(f"{self._base_url}/api/v1/runs/{run}#{uid}")
            + self._run_id(run)
            + int_attribute("tidegate.task.attempt", attempt)
        )
        return raw + self._partition(partition) if partition else raw

    def _poll(self, record: PollRecord) -> bytes:
        _, context, parent, links, start, end, sensor, events = record
        shape = self._shapes.get(sensor) or Shape()
        key = (6, sensor)
        constant = self._constants.get(key)
        if constant is None:
            attributes: dict[str, str | int | bool] = {"sensor.name": sensor}
            if shape.system:
                attributes["messaging.system"] = shape.system
                attributes["messaging.operation.name"] = "poll"
                attributes["messaging.operation.type"] = "receive"
                attributes["messaging.destination.name"] = sensor
            kind = SpanKind.CLIENT if shape.system else SpanKind.INTERNAL
            constant = self._constant(key, f"poll {sensor}", kind, attributes)
        count = "messaging.batch.message_count" if shape.system else "sensor.event_count"
        return (
            _outer_ids(context, parent, links)
            + _times(0x39, start, 0x41, end)
            + constant
            + int_attribute(count, events)
        )

    def _constant(
        self, key: tuple[str | int, ...], name: str, kind: SpanKind, attributes: _Attributes, *, error: bool = False
    ) -> bytes:
        """Build the unchanging part of a kind of span with the official classes, and remember it."""
        span = self._span_class(name=_text(name), kind=kind)  # type: ignore[arg-type]
        for attribute, value in attributes.items():
            put_value(span.attributes.add(key=attribute).value, value)
        if error:
            span.status.code = 2  # type: ignore[assignment]
        raw: bytes = span.SerializeToString()
        if len(self._constants) >= MAX_CONSTANTS:
            self._constants.clear()
        self._constants[key] = raw
        return raw


class Envelope:
    """Wraps spans of this process into export requests: resource and scope are encoded once."""

    def __init__(self, resource: "Resource", version: str) -> None:
        from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
        from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
        from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

        self.resource = ResourceMessage()
        for key, value in resource.attributes.items():
            put_value(self.resource.attributes.add(key=key).value, value)
        self.scope = InstrumentationScope(name=SCOPE, version=version)
        self._resource: bytes = ResourceSpans(resource=self.resource, schema_url=SCHEMA_URL).SerializeToString()
        self._scope: bytes = ScopeSpans(scope=self.scope, schema_url=SCHEMA_URL).SerializeToString()

    def wrap(self, spans: Sequence[bytes]) -> bytes:
        """Return an ExportTraceServiceRequest holding these framed spans."""
        scope_size = len(self._scope) + sum(map(len, spans))
        scope_head = b"\x12" + varint(scope_size)
        resource_size = len(self._resource) + len(scope_head) + scope_size
        head = b"\x0a" + varint(resource_size) + self._resource + scope_head + self._scope
        return head + b"".join(spans)


def _outer_ids(context: str, parent: str | None, links: tuple[str, ...], *, remote_parent: bool = False) -> bytes:
    """Return ids whose links came from outside: one that is no context is left out, it does not cost us the span."""
    try:
        return ids(context, parent, links, remote_parent=remote_parent, remote_links=True)
    except BadContext:
        valid = tuple(link for link in links if parse_traceparent(link) is not None)
        if len(valid) == len(links):
            raise
        return ids(context, parent, valid, remote_parent=remote_parent, remote_links=True)


def put_value(slot: "AnyValue", value: object) -> None:
    """Set an OTLP value from a Python one; sequences become arrays, anything unknown its text."""
    if isinstance(value, bool):
        slot.bool_value = value
    elif isinstance(value, int):
        slot.int_value = value
    elif isinstance(value, float):
        slot.double_value = value
    elif isinstance(value, (list, tuple)):
        for member in value:
            put_value(slot.array_value.values.add(), member)
    else:
        slot.string_value = _text(str(value))


def _text(value: str) -> str:
    """Cap text and make it encodable."""
    return value[:MAX_TEXT].encode(errors="replace").decode()
