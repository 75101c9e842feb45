"""Trigger events and results of runs, posted as CloudEvents: through triggers and runs, durable like anything else."""

import asyncio
from pathlib import Path

import orjson
from aiohttp import web

from sensors.cloudevents import decode_structured
from sensors.w3c import parse_traceparent
from tests.support.http_sink import http_sink
from tests.support.running import load, running

TEXT = """
service: {name: svc, store: sqlite:///store.db, network: {allow: [127.0.0.0/8]}}
sensors:
  orders: {kind: webhook, path: /hooks/in, verify: none, id: body.id}
triggers:
  paid: {on: {sensor: orders}, run: [{pipeline: work, key: event.id}, {pipeline: tell, key: event.id}]}
  results:
    on: {sensor: tidegate, filter: {all: [{exact: {type: tidegate.run.succeeded}}, {exact: {subject: work}}]}}
    run: {pipeline: tell-result, key: event.id}
pipelines:
  work: {engine: command, argv: ["true"]}
  tell: {engine: http, url: URL, cloudevent: {mode: structured}}
  tell-result:
    engine: http
    url: URL
    cloudevent:
      mode: structured
      id: "${{ events[0].id }}"
      type: "${{ events[0].type }}"
      subject: "${{ events[0].subject }}"
      data: "${{ events[0].data }}"
"""


async def test_triggers_and_results_are_told_once_each(tmp_path: Path) -> None:
    """One delivery becomes two CloudEvents elsewhere: what the trigger started, and how the run ended."""

    async def fine(_request: web.Request) -> web.Response:
        return web.Response(status=202)

    async with http_sink(fine) as sink:
        config = await load(tmp_path, TEXT.replace("URL", sink.url), store="memory:")
        async with running(config) as gate:
            await gate.post("/hooks/in", b'{"id": "o-1"}')
            await gate.finished(3)
            async with asyncio.timeout(10):
                while len(sink.bodies) < 2:
                    sink.arrived.clear()
                    await sink.arrived.wait()
            runs = {row["pipeline"]: row for row in await gate.runs()}
        told = {event.type: event for event in (decode_structured(orjson.loads(body)) for body in sink.bodies)}

    assert set(told) == {"tidegate.triggered", "tidegate.run.succeeded"}
    triggered, result = told["tidegate.triggered"], told["tidegate.run.succeeded"]
    assert triggered.subject == "paid"
    assert orjson.loads(triggered.data or b"")["trigger"] == "paid"
    assert result.id == f"{runs['work']['uid']}/succeeded"
    assert orjson.loads(result.data or b"")["run"] == runs["work"]["uid"]
    assert all(parse_traceparent(event.extensions["traceparent"]) is not None for event in told.values())
