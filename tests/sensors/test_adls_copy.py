"""Copies that Azure does not complete at once, which no emulator has: over real HTTP, with the real SDKs."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from sensors.adapters.adls_client import AdlsClient
from sensors.adapters.adls_source import AdlsSource
from sensors.adapters.azure_account import AzureOptions, read_account
from sensors.errors import BadPayload
from sensors.testing import VirtualClock, eventually
from tests.support.azure import KEY
from tests.support.fake_azure import FakeAzure

WHEN = {"ETag": '"0x2"', "Last-Modified": "Wed, 21 Oct 2026 07:28:00 GMT"}


def state(status: str, code: int = 200, words: str = "") -> web.Response:
    """Return an answer that tells of a copy."""
    told = {"x-ms-copy-status": status, "x-ms-copy-id": "1", "x-ms-copy-source": "http://x/y"}
    return web.Response(status=code, headers={**WHEN, **told, "x-ms-copy-status-description": words})


@pytest.fixture
def fake() -> FakeAzure:
    """What the endpoint answers."""
    return FakeAzure()


@pytest.fixture
def clock() -> VirtualClock:
    """The clock that paces the questions."""
    return VirtualClock()


@pytest.fixture
async def source(fake: FakeAzure, clock: VirtualClock) -> AsyncIterator[AdlsSource]:
    """An open source at the endpoint."""
    async with fake.serve() as sink:
        given = {"account_url": f"{sink.url}/acct", "account_key": KEY}
        account = read_account(AzureOptions.model_validate(given), None, {})
        made = AdlsSource(AdlsClient(account, "raw"), clock)
        await made.open()
        yield made
        await made.close()


async def test_a_slow_copy_is_waited_for(fake: FakeAzure, source: AdlsSource, clock: VirtualClock) -> None:
    """The call returns when the copy is complete, and asks once a second until then."""
    fake.answers = [state("pending", 202), state("pending"), state("pending"), state("success")]
    copying = asyncio.create_task(source.copy("one", "0x1", "two"))
    for left in (2, 1):
        await eventually(lambda: clock.sleeping == 1)
        assert len(fake.answers) == left
        await clock.advance(1.0)
    await asyncio.wait_for(copying, 10)
    assert not fake.answers


async def test_a_copy_that_failed_is_told(fake: FakeAzure, source: AdlsSource) -> None:
    """A copy that Azure gives up concerns this file, with Azure's own words."""
    fake.answers = [state("pending", 202), state("failed", words="500 InternalError")]
    with pytest.raises(BadPayload, match="failed: 500 InternalError") as caught:
        await source.copy("one", "0x1", "two")
    assert caught.value.position == "one"


async def test_a_copy_that_somebody_took_away_is_done(fake: FakeAzure, source: AdlsSource) -> None:
    """A target that is gone when it is asked for was there, and is somebody else's by now."""
    gone = web.Response(status=404, headers={"x-ms-error-code": "BlobNotFound"})
    fake.answers = [state("pending", 202), gone]
    await source.copy("one", "0x1", "two")
    assert not fake.answers
