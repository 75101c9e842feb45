"""CloudEvents that tasks post: what a receiver reads is what was meant, the same for every attempt."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from pipelines.errors import TaskFailed
from sensors.cloudevents import Envelope, decode_binary, decode_structured
from tests.pipelines.engines.test_http import ask, opened, reply, run
from tests.support.engine_contexts import TRACEPARENT
from tests.support.http_sink import http_sink


def _read(request: web.Request, body: bytes) -> Envelope:
    """Decode as our own webhook does."""
    if request.content_type.startswith("application/cloudevents"):
        return decode_structured(orjson.loads(body))
    headers: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    return decode_binary(headers, body, request.headers["Content-Type"])


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_by_default_it_tells_of_the_run(tmp_path: Path, mode: str) -> None:
    """Without more, the event is that a trigger started this run, with the tracing extension and one id for ever."""
    async with http_sink(reply()) as sink, opened(tmp_path) as engine:
        context = ask(sink.url, cloudevent={"mode": mode})
        await run(engine, context)
        await run(engine, context)

    one, two = [_read(request, body) for request, body in zip(sink.requests, sink.bodies, strict=True)]
    assert one == two
    assert (one.id, one.source, one.type) == (context.task_run.uid, "/tidegate/test", "tidegate.triggered")
    assert one.subject == (context.run.trigger or context.run.pipeline)
    assert one.time == context.run.created_at
    assert one.extensions["traceparent"] == TRACEPARENT == sink.requests[0].headers["traceparent"]
    assert (one.content_type or "").startswith("application/json")
    assert orjson.loads(one.data or b"")["run"] == context.run.uid


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_everything_can_be_said(tmp_path: Path, mode: str) -> None:
    """Attributes of any text, extensions and data arrive as they were written."""
    event: dict[str, Any] = {
        "mode": mode,
        "id": "o 1/%",
        "source": "/shops/ø",
        "type": "order.paid",
        "subject": 'Euro € "😀" 100%',
        "datacontenttype": "text/plain; charset=utf-8",
        "data": "smørbrød",
        "extensions": {"tenant": "acme", "n": 7, "big": True, "none": None},
    }
    async with http_sink(reply()) as sink, opened(tmp_path) as engine:
        await run(engine, ask(sink.url, cloudevent=event))
    read = _read(sink.requests[0], sink.bodies[0])
    assert (read.id, read.source, read.type, read.subject) == ("o 1/%", "/shops/ø", "order.paid", 'Euro € "😀" 100%')
    assert read.data == "smørbrød".encode()
    assert (read.extensions["tenant"], read.extensions["n"], read.extensions["big"]) == ("acme", "7", "true")
    assert "none" not in read.extensions


@pytest.mark.parametrize(
    "options",
    [
        {"cloudevent": {"extensions": {"Bad-Name": "x"}}},
        {"cloudevent": {"extensions": {"id": "x"}}},
        {"cloudevent": {"extensions": {"list": [1]}}},
        {"cloudevent": {"subject": "a\nb"}},
        {"cloudevent": {"type": ""}},
        {"cloudevent": {"datacontenttype": "text/plain", "data": {"a": 1}}},
        {"cloudevent": {"mode": "batch"}},
        {"cloudevent": {"sujbect": "x"}},
        {"cloudevent": {}, "json": {}},
    ],
)
async def test_what_is_no_cloudevent_fails_before_it_is_sent(tmp_path: Path, options: dict[str, Any]) -> None:
    """A task whose event could not be read is failed for good, and nothing leaves."""
    async with http_sink(reply()) as sink, opened(tmp_path) as engine:
        with pytest.raises(TaskFailed) as failed:
            await run(engine, ask(sink.url, **options))
    assert (failed.value.kind, failed.value.retryable) == ("bad_options", False)
    assert sink.requests == []
