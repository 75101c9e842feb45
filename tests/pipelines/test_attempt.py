import pytest

from pipelines.attempt import Attempt
from pipelines.errors import LeaseLost
from sensors.testing import VirtualClock
from tests.support.engine_contexts import make_context
from tests.support.scripted_engine import ScriptedEngine


async def _record(handle: str) -> None:
    raise AssertionError(f"nothing is started, so there is no {handle}")


async def test_an_attempt_whose_lease_is_gone_starts_nothing() -> None:
    """The lease is asked for after the last thing that may take time; nothing reaches the engine."""
    engine = ScriptedEngine(survives=True)
    passed: list[str] = []
    lease = ["held"]

    def point(name: str) -> None:
        passed.append(name)
        lease.clear()  # it ends in the very last moment

    context = make_context("scripted", {}, held=lambda: bool(lease), seconds=1e9)
    attempt = Attempt(engine, context, VirtualClock(), point, _record, resumed=False)
    with pytest.raises(LeaseLost, match="before the attempt started"):
        await attempt.carry_out()

    assert passed == ["dispatch.before_start"]
    assert engine.asked == []
