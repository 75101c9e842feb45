"""The http kind in a whole service: over restarts, over reloads, and as its health is told."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.load import load_config
from tests.support.misbehaving_api import MisbehavingApi, Reply, Seen, api_in_thread, reply
from tests.support.running import load, running, until

TEXT = """
service: {{name: svc, store: 'sqlite:///store.db', network: {{allow: [{allow}]}}}}
sensors:
  invoices:
    kind: http
    url: "{url}/invoices"
    every: 200ms
    start: beginning
    items: body.items
    id: item.id
    version: item.updated_at
    high: item.updated_at
    overlap: 10m
    query: {{since: "${{{{ cursor.high }}}}"}}
    headers: {{Authorization: "Bearer ${{env:API_TOKEN:-t-1}}"}}
triggers:
  came:
    on: {{sensor: invoices, types: [http.item.created, http.item.changed]}}
    when: event.data.amount > 1
    run: {{pipeline: work, params: {{id: "${{{{ event.data.id }}}}"}}, key: event.id}}
pipelines:
  work:
    params: {{id: {{type: str}}}}
    tasks: {{look: {{engine: command, argv: [echo, "${{{{ params.id }}}}"]}}}}
"""


class Invoices:
    """Answers what was updated since; `ill` answers instead while it is set."""

    def __init__(self, api: MisbehavingApi) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.ill: Reply | None = None
        self.tokens: set[str] = set()
        api.otherwise = self.answer

    def put(self, id_: str, at: str, amount: int = 2) -> None:
        self.rows = {**self.rows, id_: {"id": id_, "updated_at": f"2026-01-31T{at}Z", "amount": amount}}

    def answer(self, seen: Seen) -> Reply:
        self.tokens.add(seen.headers.get("Authorization", ""))
        if self.ill is not None:
            return self.ill
        since = seen.query.get("since", "")
        return reply({"items": [row for row in self.rows.values() if row["updated_at"] >= since]})


async def test_items_start_runs_once_over_restarts(tmp_path: Path) -> None:
    """On SQLite: what came before and while the service was away starts exactly one run per version."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    with api_in_thread() as api:
        invoices, text = Invoices(api), TEXT.format(url=api.url, allow="127.0.0.0/8")
        invoices.put("a", "06:00:00")
        invoices.put("small", "06:00:00", amount=1)
        async with running(await load(tmp_path, text, store=store)) as gate:
            await gate.finished(1)
        invoices.put("b", "06:00:00")  # the same second, and late
        invoices.put("a", "06:00:01")
        async with running(await load(tmp_path, text, store=store)) as gate:
            await gate.finished(3)
            asked = len(api.seen)
            await until(lambda: len(api.seen) > asked + 2)
            runs = await gate.finished(3)
            events = await gate.events(sensor="invoices")

    assert len(runs) == 3
    assert sorted((str(event["type"]), str(event["id"])) for event in events) == [
        ("http.item.changed", "a@2026-01-31T06:00:01Z"),
        ("http.item.created", "a@2026-01-31T06:00:00Z"),
        ("http.item.created", "b@2026-01-31T06:00:00Z"),
        ("http.item.created", "small@2026-01-31T06:00:00Z"),
    ]
    assert invoices.tokens == {"Bearer t-1"}
    assert api.seen[-1].query["since"] == "2026-01-31T05:50:01Z"


async def test_health_says_what_is_wrong_and_heals(tmp_path: Path) -> None:
    """The sentence stands in health, holds no secret, and goes when the API is well again."""
    with api_in_thread() as api:
        invoices, text = Invoices(api), TEXT.format(url=api.url, allow="127.0.0.0/8")
        invoices.ill = reply({}, 401)
        async with running(await load(tmp_path, text, store="memory:")) as gate:
            health = gate.service.sensor_health
            await until(lambda: health()["invoices"]["state"] == "unhealthy")
            reason = str(health()["invoices"]["reason"])
            invoices.ill = None
            invoices.put("a", "06:00:00")
            gate.service._parts.fleet.poll("invoices")
            await until(lambda: health()["invoices"]["state"] == "healthy")
            await gate.finished(1)
            lag = health()["invoices"]["lag"]

    assert reason == f"{api.url}/invoices refuses the credentials (401); correct `auth` or `headers`"
    assert lag is not None
    assert 0 <= lag < 10


async def test_private_networks_are_allowed_on_purpose_only(tmp_path: Path) -> None:
    """Without `network.allow` a private address is not asked; a reload that allows it builds the sensor anew."""
    with api_in_thread() as api:
        invoices = Invoices(api)
        invoices.put("a", "06:00:00")
        closed = TEXT.format(url=api.url, allow="")
        async with running(await load(tmp_path, closed, store="memory:")) as gate:
            health = gate.service.sensor_health
            await until(lambda: health()["invoices"]["state"] == "unhealthy")
            reason, asked = str(health()["invoices"]["reason"]), len(api.seen)
            opened = TEXT.format(url=api.url, allow="127.0.0.0/8")
            await gate.service.reload(await load(tmp_path, opened, store="memory:"))
            await gate.finished(1)

    assert "network.allow" in reason
    assert asked == 0


@pytest.mark.parametrize("value", ["t-${{ cursor.high }}", "t-$${{", 'quo"te'])
async def test_what_a_secret_brings_is_never_evaluated(tmp_path: Path, value: str) -> None:
    """A token that looks like an expression is sent as it is."""
    with api_in_thread() as api:
        invoices, text = Invoices(api), TEXT.format(url=api.url, allow="127.0.0.0/8")
        path = tmp_path / "tidegate.yaml"
        path.write_text(text)
        loaded = await asyncio.to_thread(load_config, [path], environ={"API_TOKEN": value})
        async with running(replace(loaded, store="memory:")):
            await until(lambda: bool(api.seen))

    assert invoices.tokens == {f"Bearer {value}"}
