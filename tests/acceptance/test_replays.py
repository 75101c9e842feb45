"""Killed in the middle of a replay: the next start goes on, and everything it stands for has exactly one run."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.service import QuickstartService

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]
ORDERS = 220
JSON = {"Content-Type": "application/json"}
ASK = b'{"trigger": "again", "since": "2020-01-01T00:00:00Z"}'
CONFIG = """
service: {name: again, store: "sqlite:///store.db"}
sensors: {hooks: {kind: webhook, path: /hooks, verify: none}}
triggers: {again: {on: {sensor: hooks}, run: {pipeline: slow}}}
pipelines: {slow: {engine: command, argv: [sleep, "600"], concurrency: 1}}
"""


@pytest.mark.parametrize(
    "point",
    [
        "replay.started:2",
        pytest.param("replay.begun:3", marks=pytest.mark.campaign),
        pytest.param("replay.moved:2", marks=pytest.mark.campaign),
        pytest.param("store.after_commit:40", marks=pytest.mark.campaign),
    ],
)
async def test_a_kill_in_a_replay_loses_and_doubles_nothing(tmp_path: Path, point: str) -> None:
    """SIGKILL within a step: after the restart the replay ends by itself, with one run for each event."""
    service = QuickstartService(tmp_path, OTEL_SDK_DISABLED="true")
    (tmp_path / "config" / "quickstart.yaml").write_text(CONFIG)
    try:
        await service.start()
        for _ in range(ORDERS // 20):
            await asyncio.gather(*(service.ask("POST", "/hooks", b"{}", JSON) for _ in range(20)))
        await service.end()
        service._environ["TIDEGATE_FAILPOINT"] = point
        await service.start()
        with contextlib.suppress(OSError, aiohttp.ClientError):
            await service.ask("POST", "/api/v1/replays", ASK, JSON)
        process = service._process
        assert process is not None
        assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL
        del service._environ["TIDEGATE_FAILPOINT"]
        await service.start()
        replay = await service.until(lambda: _ended(service))
        causes = await _causes(service, replay["uid"])
    finally:
        await service.end()

    assert replay["counts"] == {"looked": ORDERS, "started": ORDERS}
    assert len(causes) == len(set(causes)) == ORDERS


async def _ended(service: QuickstartService) -> Any:
    (replay,) = (await service.read("replays"))["items"]
    return replay if replay["state"] == "succeeded" else None


async def _causes(service: QuickstartService, uid: str) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        page = await service.read(f"replays/{uid}/runs?limit=200{cursor}")
        found += [item["cause"] for item in page["items"]]
        if page["cursor"] is None:
            return found
        cursor = f"&cursor={page['cursor']}"
