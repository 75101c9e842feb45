"""Killed between the commit of an alert and its delivery: the next start delivers it, under the same name."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.http_sink import Sink, http_sink
from tests.support.service import QuickstartService

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]
ALERTS = """
alerts:
  oncall: {to: "${env:ALERT_URL}", events: [trigger_error], group_wait: 300ms}
triggers:
  broken: {on: {sensor: hooks}, when: "event.data.nothing.of.this == 1", run: {pipeline: announce}}
"""
ORDER = {"order_id": "O-900002"}


@pytest_asyncio.fixture
async def sink() -> AsyncIterator[Sink]:
    async def taken(request: web.Request) -> web.Response:
        return web.Response()

    async with http_sink(taken) as opened:
        yield opened


@pytest.mark.parametrize(
    ("point", "sends"),
    [
        ("alerts.planned", 1),
        pytest.param("alerts.before_send", 1, marks=pytest.mark.campaign),  # waits for the end of a lease
        pytest.param("alerts.after_send", 2, marks=pytest.mark.campaign),
    ],
)
async def test_a_kill_between_commit_and_delivery_loses_no_alert(
    tmp_path: Path, sink: Sink, point: str, sends: int
) -> None:
    """SIGKILL when the alert is durable: sent after the restart; once more, under its name, if nobody knows it was."""
    service = QuickstartService(tmp_path, ALERT_URL=f"{sink.url}/hook", OTEL_SDK_DISABLED="true")
    port = tmp_path / "config" / "port.yaml"
    port.write_text(port.read_text() + ALERTS)
    try:
        service._environ["TIDEGATE_FAILPOINT"] = point
        await service.start()
        await _post_until_dead(service)
        before = len(sink.bodies)
        del service._environ["TIDEGATE_FAILPOINT"]
        await service.start()
        (row,) = await service.until(lambda: _sent(service), 100)
        assert await service.stop() == 0
    finally:
        await service.end()

    assert before == sends - 1
    told = [json.loads(body) for body in sink.bodies]
    assert [body["kind"] for body in told] == ["trigger_error"] * len(told)
    assert [body["count"] for body in told] == [1] * sends
    assert {body["id"] for body in told} == {row["message"]}
    assert {request.headers["Idempotency-Key"] for request in sink.requests} == {row["message"]}
    assert "nothing" in told[0]["text"]


async def _post_until_dead(service: QuickstartService) -> None:
    """Post an order, and wait until the service has killed itself."""
    with contextlib.suppress(OSError, aiohttp.ClientError):  # it may die before it answers
        await service.post_order(ORDER)
    process = service._process
    assert process is not None
    assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL


async def _sent(service: QuickstartService) -> list[dict[str, object]]:
    found = (await service.read("alerts"))["items"]
    return [row for row in found if row["state"] == "sent"]
