"""A queue under kill -9, as the campaign `queues` does it at length: the service as a process, on SQLite."""

from pathlib import Path

import pytest

from tests.campaigns.queues import prove
from tests.support.queue_places import rabbit_place
from tests.support.rabbit import Rabbit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration, pytest.mark.timeout(150)]


async def test_a_killed_service_makes_of_every_message_one_event_and_one_run(rabbitmq: Rabbit, tmp_path: Path) -> None:
    """Killed twice in the middle of 600 messages: nothing is lost, nothing is twice, nothing is left."""
    async with rabbit_place(lambda _: rabbitmq) as place:
        found = await prove(place, tmp_path, messages=600, kills=2)
    assert found.kept, found
    assert any(0 < at < 600 for at in found.killed_at), found
