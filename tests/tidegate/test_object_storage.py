"""Sensors on object storage in a whole service: what goes wrong is named, hurts nobody else, and heals by itself."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.aws import Aws, running_ministack
from tests.support.running import Running, load, running, until
from tests.support.scripted_s3 import Answer, Request, ScriptedS3, error, listing, running_script

WRONG = {
    "wrong": (error("NoSuchBucket", 404), "wrong"),
    "denied": (error("AccessDenied", 403), "denied"),
    "expired": (error("ExpiredToken", 400), "expired"),
    "skewed": (error("RequestTimeTooSkewed", 403, headers={"Date": "Sat, 31 Jan 2026 06:00:00 GMT"}), "clock"),
}
SENSOR = (
    "  {name}: {{kind: s3, bucket: {name}-bucket, endpoint_url: '{url}', region: us-east-1, start: beginning,"
    " every: 500ms, credentials: {{access_key_id: k, secret_access_key: '${{env:S3_SECRET:-s}}'}}}}\n"
)


class Sick:
    """A server whose buckets are wrong in their ways until it is healed."""

    def __init__(self) -> None:
        self.healed = False

    def answer(self, request: Request) -> Answer:
        name = request.path.strip("/").partition("/")[0].removesuffix("-bucket")
        if self.healed or name not in WRONG:
            return listing(f"{name}.csv")
        return WRONG[name][0]


@pytest.fixture
async def sick() -> AsyncIterator[tuple[ScriptedS3, Sick]]:
    async with running_script() as server:
        state = Sick()
        server.otherwise = state.answer
        yield server, state


def states(gate: Running) -> dict[str, str]:
    return {name: found["state"] for name, found in gate.service.sensor_health().items()}


async def test_what_is_wrong_is_named_and_heals_by_itself(tmp_path: Path, sick: tuple[ScriptedS3, Sick]) -> None:
    """Each cause has its sentence in health and metrics, the healthy sensor goes on, all recover without a restart."""
    server, state = sick
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        down = probe.getsockname()[1]
    text = "service: {name: svc, store: 'sqlite:///store.db'}\nsensors:\n"
    for name in (*WRONG, "fine"):
        text += SENSOR.format(name=name, url=server.url)
    text += SENSOR.format(name="down", url=f"http://127.0.0.1:{down}")
    async with running(await load(tmp_path, text, store="memory:")) as gate:
        ill = {*WRONG, "down"}
        await until(lambda: all(states(gate)[name] == "unhealthy" for name in ill))
        await until(lambda: states(gate)["fine"] == "healthy")
        health = gate.service.sensor_health()
        for name, (_, word) in WRONG.items():
            assert word in str(health[name]["reason"]).lower(), health[name]["reason"]
        assert f"127.0.0.1:{down}" in str(health["down"]["reason"])
        assert gate.service.ready() == (True, "")
        metrics = gate.service.metrics_text()
        assert 'tidegate_sensor_state{sensor_name="denied",state="unhealthy"} 1' in metrics
        assert [event["subject"] for event in await gate.events(sensor="fine")] == ["fine.csv"]

        state.healed = True
        runner = await _open_at(down)
        try:
            for name in ill:
                gate.service._parts.fleet.poll(name)  # ends the back-off, which would end by itself
            await until(lambda: all(found == "healthy" for found in states(gate).values()), 30)
            expected = sorted(f"{name}.csv" for name in (*ill, "fine"))
            async with asyncio.timeout(15):
                while expected != sorted([str(one["subject"]) for one in await gate.events(type="object.created")]):
                    await asyncio.sleep(0.02)
        finally:
            await runner.cleanup()


async def _open_at(port: int) -> web.AppRunner:
    """Serve one bucket on a port."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=listing("down.csv").body, headers={"Date": f"{datetime.now(UTC):%a, %d %b %Y} GMT"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", page)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.sleep(0)
    return runner


@pytest.fixture(scope="module")
def ministack() -> Iterator[Aws]:
    """S3, once for these tests."""
    with running_ministack() as server:
        yield server


AFTER = """
service: {{name: svc, store: 'sqlite:///store.db'}}
sensors:
  inbox:
    kind: s3
    bucket: {bucket}
    endpoint_url: '{url}'
    region: us-east-1
    credentials: {{access_key_id: test, secret_access_key: '${{env:S3_SECRET:-test}}'}}
    prefix: in/
    start: beginning
    every: 300ms
    on: [created, overwritten, deleted]
    after: {{do: move, to: "done/{{name}}", when: succeeded}}
triggers:
  came:
    on: {{sensor: inbox, type: object.created}}
    run: {{pipeline: work, params: {{key: "${{{{ event.subject }}}}"}}}}
pipelines:
  work:
    params: {{key: {{type: str}}}}
    tasks: {{look: {{engine: command, argv: [sh, -c, 'case "$0" in *bad*) exit 1;; esac', "${{{{ params.key }}}}"]}}}}
"""


async def test_an_object_is_moved_once_its_run_has_succeeded(tmp_path: Path, ministack: Aws) -> None:
    """On a real server: never before, not when the run failed; our own move is no event, also after a restart."""
    with ministack.bucket() as bucket:
        text = AFTER.format(bucket=bucket.name, url=ministack.endpoint)
        store = f"sqlite:///{tmp_path / 'store.db'}"
        await asyncio.to_thread(bucket.put, "in/good.csv", b"abc")
        await asyncio.to_thread(bucket.put, "in/bad.csv", b"abc")
        async with running(await load(tmp_path, text, store=store)) as gate:
            await gate.finished(2)
            async with asyncio.timeout(20):
                while "done/good.csv" not in (keys := await asyncio.to_thread(bucket.keys)):
                    await asyncio.sleep(0.05)
            assert "in/bad.csv" in keys
        async with running(await load(tmp_path, text, store=store)) as gate:
            await asyncio.to_thread(bucket.put, "in/late.csv", b"abc")
            await gate.finished(3)
            async with asyncio.timeout(20):
                while "in/late.csv" in (keys := await asyncio.to_thread(bucket.keys)) or "done/late.csv" not in keys:
                    await asyncio.sleep(0.05)
            for _ in range(2):
                await _scanned(gate)
            assert keys == ["done/good.csv", "done/late.csv", "in/bad.csv"]
            found = sorted((str(one["type"]), str(one["subject"])) for one in await gate.events(sensor="inbox"))
            assert found == [("object.created", f"in/{name}.csv") for name in ("bad", "good", "late")]


async def _scanned(gate: Running) -> None:
    """Wait until everything was listed once more."""
    before = gate.service.sensor_health()["inbox"]["last_success"]
    gate.service._parts.fleet.poll("inbox")
    await until(lambda: gate.service.sensor_health()["inbox"]["last_success"] != before)
