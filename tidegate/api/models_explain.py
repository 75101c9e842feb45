"""What the API answers about why: verdicts, and what waits, stands in the way or does not listen."""

from typing import Literal

from pydantic import Field

from tidegate.api.models import ClauseView, EventRow, Model, Moment
from triggers.decision import Outcome


class WaitingView(Model):
    """What an open join, sequence or count waits for."""

    key: str
    there: dict[str, int] = Field(description="Parts that came, and how many events of each.")
    missing: list[str]
    until: Moment | None


class InTheWay(Model):
    """The run that took the key, that a run was merged into, or that was in the way; or that was started."""

    run: str
    state: str | None = Field(description="How it stands now; null when it is past its retention.")


class Verdict(Model):
    """What one trigger concluded about the event: as stored, or judged again now."""

    trigger: str
    outcome: Outcome
    reason: str
    note: str = Field(
        description="What else is to be known: that the rule has changed since, or that nothing is stored."
    )
    basis: Literal["stored", "judged_now"] = Field(
        description="`judged_now`: nothing was stored; the rule that was in force was asked again."
    )
    rule: Literal["same", "changed", "gone"] = Field(
        description="How the rule in force now compares with the one that judged."
    )
    at: Moment | None
    version: str
    clauses: list[ClauseView] = Field(description="The clauses on the way, in order; the last one decided.")
    decision: str | None
    trigger_event: str | None
    run: str | None
    item: int | None
    waiting: WaitingView | None
    in_the_way: InTheWay | None


class NotCandidate(Model):
    """A trigger that had nothing to decide about the event, and why."""

    trigger: str
    reason: str


class Explanation(Model):
    """Why an event fired triggers, or did not."""

    event: EventRow
    verdicts: list[Verdict]
    others: list[NotCandidate] = Field(description="The first 100 triggers that do not listen to such events, and why.")
    other_count: int
