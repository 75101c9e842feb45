"""What the API answers about data: results of checks, and how fresh datasets are."""

from typing import Any, Literal

from pydantic import Field

from tidegate.api.models import Model, Moment

State = Literal["fresh", "stale", "unknown", "new"]


class CheckView(Model):
    """One result of a check. `sample` holds a few offending rows, with values left out where they are redacted."""

    check: str
    task: str
    dataset: str
    passed: bool
    severity: Literal["warn", "fail"]
    message: str
    expected: str | None
    actual: str | None
    sample: list[dict[str, Any]]
    at: Moment
    run: str


class FreshnessView(Model):
    """How fresh a watched dataset is. `new`: nothing is known of it yet; `unknown`: its probe fails, see `error`."""

    dataset: str
    uri: str
    state: State
    expected: str
    updated_at: Moment | None
    stale_since: Moment | None
    checked_at: Moment | None
    reason: str
    error: str | None
    probed: bool = Field(description="It is asked; else its writes here tell.")


class FreshnessList(Model):
    """All datasets that are watched, by name."""

    items: list[FreshnessView]


class CheckList(Model):
    """The latest result of each check of a dataset."""

    dataset: str
    freshness: FreshnessView | None
    items: list[CheckView]
