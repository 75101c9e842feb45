"""`tidegate sensors audit`: a table for people, JSON for scripts, and an exit code that says whether all is there."""

import json
from dataclasses import replace

import pytest

from sensors.audit import AuditReport, Finding, Findings, NotAuditable
from tests.cli.conftest import Ask
from tests.support.house import EVIL
from tests.support.served import Served

WHOLE = AuditReport(listed=1_200, remembered=1_200, ignored={"pattern": 2})
MISSING = Findings(102, [Finding(f"in/{n:03}", "it was never seen") for n in range(99)] + [Finding(EVIL, "it is odd")])


def test_nothing_is_missing(served: Served, ask: Ask) -> None:
    """A source that is whole shows its counts and ends with 0."""
    served.house.audit = WHOLE
    result = ask("sensors", "audit", "landing")

    assert result.exit_code == 0
    assert "1,200" in result.output
    assert "ignored: pattern" in result.output
    assert served.house.audited == [("landing", False)]


def test_something_is_missing(served: Served, ask: Ask) -> None:
    """What is missing is told by name, the rest by number, without a control character; the exit code is 1."""
    served.house.audit = replace(WHOLE, missing=MISSING, healed=102, waiting={"it is newer than the last scan": 5})
    result = ask("sensors", "audit", "landing", "--heal")

    assert result.exit_code == 1
    assert served.house.audited == [("landing", True)]
    for text in (
        "in/000",
        "in/098",
        "it was never seen",
        "… and 2 more",
        "handed to the sensor",
        "waiting: it is newer",
    ):
        assert text in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("report", "code"),
    [
        pytest.param(WHOLE, 0, id="whole"),
        pytest.param(replace(WHOLE, missing=MISSING), 1, id="missing"),
        pytest.param(replace(WHOLE, problem="a folder cannot be opened"), 1, id="not everything was looked at"),
        pytest.param(replace(WHOLE, extra=MISSING, changed=MISSING), 0, id="extra and changed"),
    ],
)
def test_json_for_scripts(report: AuditReport, code: int, served: Served, ask: Ask) -> None:
    """The whole answer is printed as JSON; only what is missing, or could not be looked at, is exit code 1."""
    served.house.audit = report
    result = ask("sensors", "audit", "landing", "--json")

    assert result.exit_code == code
    assert json.loads(result.output)["missing"]["count"] == report.missing.count
    assert json.loads(result.output)["problem"] == (report.problem or None)


def test_a_sensor_without_the_ability(served: Served, ask: Ask) -> None:
    """The service's sentence is printed, exit code 1."""
    served.house.audit = NotAuditable("sensor hook is sent its events, so there is nothing to compare")
    result = ask("sensors", "audit", "hook")

    assert (result.exit_code, "sent its events" in result.stderr) == (1, True)
    assert ask("sensors", "audit", "nobody").exit_code == 1
