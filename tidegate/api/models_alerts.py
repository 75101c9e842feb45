"""What the API answers about alerts. Every field is always present; null says that there is none."""

from typing import Any, Literal

from pydantic import Field

from tidegate.api.models import Model, Moment, Paged


class Delivery(Model):
    """The way of an alert's message to one target."""

    target: str = Field(description="Scheme and machine; the URL itself is secret.")
    state: Literal["pending", "sent", "failed", "suppressed"]
    attempts: int
    error: str = Field(description="What the last attempt met.")
    next_try: Moment | None
    done_at: Moment | None


class AlertView(Model):
    """One thing that one route is to tell of, and what became of it."""

    uid: str
    route: str
    kind: str
    severity: str
    subject: str
    at: Moment
    text: str
    count: int = Field(description="How many things it stands for.")
    ends: bool = Field(description="It tells that something has ended.")
    labels: dict[str, Any] = Field(description="Names, `tags`, and uids in `refs`.")
    link: str
    state: Literal["pending", "sent", "failed", "suppressed"]
    reason: str = Field(description="Why it was suppressed, or failed.")
    message: str | None = Field(description="The message that tells of it; many alerts may share one.")
    deliveries: list[Delivery]


class AlertPage(Paged):
    """Alerts."""

    items: list[AlertView]


class TargetTrial(Model):
    """What a test message met at one target."""

    target: str
    ok: bool
    error: str


class TrialAnswer(Model):
    """What became of a test message."""

    route: str
    ok: bool = Field(description="All targets took it.")
    targets: list[TargetTrial]


class Undelivered(Model):
    """What a route could not deliver so far."""

    route: str
    messages: int
    since: Moment
    error: str
