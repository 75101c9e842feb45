"""The http kind in the service as users start it, killed in the middle of a poll."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.misbehaving_api import MisbehavingApi, Reply, Seen, reply, running_api
from tests.support.service import QuickstartService

pytestmark = pytest.mark.acceptance

SENSOR = """
sensors:
  invoices:
    kind: http
    url: "{url}/invoices"
    every: 100ms
    start: beginning
    id: item.id
    version: item.v
    high: item.v
    paging: {{by: link}}
    query: {{after: "${{{{ cursor.high }}}}"}}
"""


@pytest.fixture
async def api() -> AsyncIterator[MisbehavingApi]:
    async with running_api() as server:
        yield server


@pytest.fixture
async def service(tmp_path: Path, api: MisbehavingApi) -> AsyncIterator[QuickstartService]:
    made = QuickstartService(tmp_path)
    overlay = tmp_path / "config" / "port.yaml"
    listen = overlay.read_text().rstrip().removesuffix("}")
    overlay.write_text(listen + ", network: {allow: [127.0.0.0/8]}}\n" + SENSOR.format(url=api.url))
    yield made
    await made.end()


async def test_a_kill_in_the_middle_of_a_poll_costs_nothing(service: QuickstartService, api: MisbehavingApi) -> None:
    """After `kill -9` between two pages and a restart every version is one event, and the mark moves."""
    hangs = True

    def answer(seen: Seen) -> Reply:
        after = int(seen.query.get("after", 0))
        rows = [{"id": n, "v": n} for n in range(1, 7) if n > after]
        if seen.path == "/invoices":
            return reply(rows[:3], headers={"Link": '</more>; rel="next"'} if len(rows) > 3 else {})
        return Reply(manner="silent") if hangs else reply(rows[3:])

    api.otherwise = answer
    await service.start()

    async def events() -> list[dict[str, object]]:
        found: list[dict[str, object]] = (await service.read("events?sensor=invoices&limit=100"))["items"]
        return found

    async def first_page() -> bool:
        return len(await events()) == 3 and any(seen.path == "/more" for seen in api.seen)

    await service.until(first_page)
    await service.stop(signal.SIGKILL)
    hangs = False
    asked = len(api.seen)
    await service.start()

    async def moved() -> bool:
        return api.seen[-1].query.get("after") == "6"

    await service.until(moved)
    found = await events()

    assert "after" not in api.seen[asked].query
    assert sorted(str(event["id"]) for event in found) == [f"{n}@{n}" for n in range(1, 7)]
    assert {str(event["type"]) for event in found} <= {"http.item.created", "http.schema.changed"}
    health = next(one for one in (await service.read("sensors"))["items"] if one["name"] == "invoices")
    assert health["health"]["state"] == "healthy", json.dumps(health)
