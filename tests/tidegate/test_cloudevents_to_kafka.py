"""Trigger events and results of runs, written to Kafka as CloudEvents and read back by our own sensor."""

from pathlib import Path
from typing import Any

import pytest

from sensors.w3c import parse_traceparent
from tests.support.kafka import Kafka
from tests.support.running import load, running

pytestmark = pytest.mark.integration

TEXT = """
service: {name: svc, store: sqlite:///store.db}
sensors:
  orders: {kind: webhook, path: /hooks/in, verify: none, id: body.id}
  back: {kind: kafka, brokers: BROKERS, topics: [TOPIC], start: beginning, format: cloudevents, keep: all}
triggers:
  paid: {on: {sensor: orders}, run: [{pipeline: work, key: event.id}, {pipeline: tell, key: event.id}]}
  results:
    on: {sensor: tidegate, filter: {all: [{exact: {type: tidegate.run.failed}}, {exact: {subject: work}}]}}
    run: {pipeline: tell-result, key: event.id}
pipelines:
  work: {engine: command, argv: ["false"]}
  tell:
    engine: kafka
    brokers: BROKERS
    topic: TOPIC
    cloudevent: {extensions: {partitionkey: "${{ run.key }}"}}
  tell-result:
    engine: kafka
    brokers: BROKERS
    topic: TOPIC
    cloudevent:
      mode: structured
      id: "${{ events[0].id }}"
      type: "${{ events[0].type }}"
      subject: "${{ events[0].subject }}"
      data: "${{ events[0].data }}"
"""


async def test_what_is_told_by_kafka_is_read_back(kafka: Kafka, tmp_path: Path) -> None:
    """One delivery becomes two records; our sensor makes the same CloudEvents of them, linked to who wrote them."""
    async with kafka.topic(3) as topic:
        text = TEXT.replace("BROKERS", str(kafka.bootstrap.split(","))).replace("TOPIC", topic.name)
        async with running(await load(tmp_path, text, store="memory:")) as gate:
            await gate.post("/hooks/in", b'{"id": "o-1"}')
            await gate.finished(3)
            rows = await gate.until_events(lambda rows: sum(row["sensor"] == "back" for row in rows) == 2)
            runs = {row["pipeline"]: row for row in await gate.runs()}
        assert sum((await topic.ends()).values()) == 2

    back: dict[str, Any] = {row["type"]: row for row in rows if row["sensor"] == "back"}
    assert set(back) == {"tidegate.triggered", "tidegate.run.failed"}
    triggered, result = back["tidegate.triggered"], back["tidegate.run.failed"]
    assert triggered["subject"] == "paid"
    assert triggered["attributes"]["key"] == triggered["attributes"]["partitionkey"] == "o-1"
    assert (result["subject"], result["attributes"]["ceid"]) == ("work", f"{runs['work']['uid']}/failed")
    for row, teller in ((triggered, "tell"), (result, "tell-result")):
        assert row["attributes"]["idempotency-key"].startswith("tg-")
        assert row["traceparent"] == row["attributes"]["traceparent"]
        wrote, linked, own = (
            parse_traceparent(text) for text in (runs[teller]["span"], row["traceparent"], row["span"])
        )
        assert wrote is not None
        assert linked is not None
        assert own is not None
        assert wrote.trace_id == linked.trace_id != own.trace_id  # linked, never adopted
        assert not row["trusted"]
