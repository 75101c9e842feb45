"""A back-test over PostgreSQL: its ledger is read as that of the other stores is (tests/backtest)."""

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.backtest.cases import MOMENTS, rules
from tests.backtest.test_unchanged import gone_over
from tests.support.postgres import wipe
from triggers.trigger import Trigger


@pytest.mark.postgres
@pytest.mark.integration
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules(timers=False), MOMENTS)
def test_what_was_recorded_is_what_the_same_rules_would_do(
    shared_database: str, triggers: list[Trigger], moments: list[Any]
) -> None:
    """The ledger of PostgreSQL is read as that of SQLite is. Its clock is its own, so nothing here waits for time."""
    wipe(shared_database)
    base = time.time_ns() // 1000
    report = gone_over(shared_database, triggers, moments, base, baseline="recorded")

    assert not report.differs, report
    assert sum(one.same for one in report.triggers) == sum(one.after.get("fired", 0) for one in report.triggers)
