"""An OTLP/HTTP receiver for tests: a real HTTP server on a thread, decoding with the official protobuf classes.

Tests read `spans` and `metrics`, or wait for what they expect. `answers` scripts the next responses (status, headers,
body); when it is empty everything is taken with 200.
"""

import gzip
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Answer = tuple[int, Mapping[str, str], bytes]
_KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}


@dataclass(frozen=True)
class Seen:
    """One received span, in plain values; ids are hex. `error` says that its status is Error."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start: int
    end: int
    attributes: Mapping[str, Any]
    links: tuple[str, ...]  # span ids
    error: bool
    flags: int
    dropped_links: int = 0
    resource: Mapping[str, Any] = field(default_factory=dict)


def value_of(value: Any) -> Any:
    """Return the plain value of an OTLP AnyValue."""
    which = value.WhichOneof("value")
    if which == "array_value":
        return [value_of(member) for member in value.array_value.values]
    return None if which is None else getattr(value, which)


def attributes_of(pairs: Any) -> dict[str, Any]:
    """Return OTLP key-values as a dict; a key given twice is an error in what was sent."""
    found = {pair.key: value_of(pair.value) for pair in pairs}
    assert len(found) == len(pairs), f"an attribute was sent twice: {[pair.key for pair in pairs]}"
    return found


def decode_spans(body: bytes) -> list[Seen]:
    """Decode an export request."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Seen(
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            name=span.name,
            kind=_KINDS[span.kind],
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            attributes=attributes_of(span.attributes),
            links=tuple(link.span_id.hex() for link in span.links),
            error=span.status.code == 2,
            flags=span.flags,
            dropped_links=span.dropped_links_count,
            resource=attributes_of(resource.resource.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


class OtlpReceiver:
    """What arrived so far. `url` is the base endpoint."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.headers: list[Mapping[str, str]] = []
        self.answers: deque[Answer] = deque()
        self.requests = 0
        self.keep = True  # False: count, do not keep (memory tests)
        self.count = 0
        self.connections = 0
        self.url = ""
        self._changed = threading.Condition()

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Handle one request; called by the server's threads."""
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        with self._changed:
            self.requests += 1
            self.headers.append({name.lower(): text for name, text in headers.items()})
            answer: Answer = self.answers.popleft() if self.answers else (200, {}, b"")
            if 200 <= answer[0] < 300:
                if path == "/v1/metrics":
                    self.metrics.append(ExportMetricsServiceRequest.FromString(body))
                else:
                    spans = decode_spans(body)
                    self.count += len(spans)
                    if self.keep:
                        self.spans.extend(spans)
            self._changed.notify_all()
        return answer

    def wait(self, condition: Callable[["OtlpReceiver"], bool], timeout: float = 10.0) -> None:
        """Block until the condition holds; AssertionError with what arrived when it does not in time."""
        with self._changed:
            met = self._changed.wait_for(lambda: condition(self), timeout)
        assert met, f"not received in {timeout} s; there are {sorted(span.name for span in self.spans)}"

    def wait_trace(self, trace_id: str, spans: int, timeout: float = 10.0) -> list[Seen]:
        """Block until a trace has so many spans; return them in order of start."""
        self.wait(lambda here: sum(span.trace_id == trace_id for span in here.spans) >= spans, timeout)
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start)

    def named(self, name: str) -> Seen:
        """Return the only span of that name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def tree(self) -> dict[str, str | None]:
        """Return span name to parent's name (None for a root, `remote` for a parent that was not received)."""
        names = {span.span_id: span.name for span in self.spans}
        return {span.name: names.get(span.parent_id, "remote") if span.parent_id else None for span in self.spans}


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Run a receiver on a free port of loopback."""
    receiver = OtlpReceiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            receiver.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, headers, answer = receiver.take(self.path, dict(self.headers.items()), body)
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Be quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def closed_port() -> int:
    """Return a port of loopback on which nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Block until a condition that other threads bring about holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"did not come true in {timeout} s"
        pause.wait(0.005)
