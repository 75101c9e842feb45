"""Killed between the commit of an alert and its delivery: the next start delivers it; nothing is told twice."""

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


async def test_a_kill_between_commit_and_delivery_loses_no_alert(tmp_path: Path, sink: Sink) -> None:
    """SIGKILL when the event, its decision and the alert are durable and nothing was sent: sent after the restart."""
    service = QuickstartService(tmp_path, ALERT_URL=f"{sink.url}/hook", OTEL_SDK_DISABLED="true")
    port = tmp_path / "config" / "port.yaml"
    port.write_text(port.read_text() + ALERTS)
    try:
        service._environ["TIDEGATE_FAILPOINT"] = "alerts.planned"
        await service.start()
        await _post_until_dead(service)
        before = len(sink.bodies)
        del service._environ["TIDEGATE_FAILPOINT"]
        await service.start()
        (row,) = await service.until(lambda: _sent(service))
        assert await service.stop() == 0
    finally:
        await service.end()

    assert before == 0
    told = [json.loads(body) for body in sink.bodies]
    assert [body["kind"] for body in told] == ["trigger_error"] * len(told)
    assert sum(body["count"] for body in told) == len(told) == 1
    assert row["message"] == told[0]["id"]
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
