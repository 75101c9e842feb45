"""What the API is asked and answers about back-tests: changed rules, tried on the past."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tidegate.api.models import ClauseView, Model, Moment
from tidegate.api.models_runs import Text

MOST_EVENTS = 5_000_000
MOST_SECONDS = 600
MOST_FROM_SOURCE = 50_000


class ConfigFile(BaseModel):
    """One file of a configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text = Field(description="How it is named in problems.")
    text: Annotated[str, Field(max_length=262_144)] = Field(description="YAML.")


class BacktestAsk(BaseModel):
    """Rules to try, and on what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Annotated[str, Field(max_length=262_144)] | dict[str, Any] | list[ConfigFile] | None = Field(
        default=None,
        description="The changed rules: a configuration as YAML text, as JSON, or as files of one layer, of which the "
        "section `triggers` is read. Null: the rules in force are compared with what was recorded.",
    )
    triggers: list[Text] = Field(default=[], max_length=1_000, description="Empty: all that differ.")
    baseline: Literal["in_force", "recorded"] | None = Field(
        default=None, description="The rules in force, judged anew (default, with `config`), or what was recorded."
    )
    since: AwareDatetime | None = Field(default=None, description="RFC 3339; a week before `until`, if null.")
    until: AwareDatetime | None = Field(default=None, description="RFC 3339, not included; now, if null.")
    sensors: list[Text] = Field(default=[], max_length=1_000, description="Only events of these.")
    limit: int = Field(default=1_000_000, ge=1, le=MOST_EVENTS, description="Events at most.")
    seconds: float = Field(default=120.0, gt=0, le=MOST_SECONDS, description="It ends after so long.")
    samples: int = Field(default=5, ge=0, le=100, description="Samples of each kind, per trigger.")
    from_source: bool = Field(
        default=False,
        description="Read the sensors' sources, by readers that take and move nothing, instead of stored events.",
    )


class WhyView(Model):
    """Why the other side did not fire."""

    outcome: str = Field(description="An outcome; `none` where no decision was made.")
    reason: str
    clause: ClauseView | None


class FiringView(Model):
    """A run that would be asked for."""

    pipeline: str
    at: Moment
    events: list[str] = Field(description="The events' uids, up to 100.")
    key: str | None = Field(description="Null: the trigger event's own uid.")
    partition: str | None
    lane: str | None
    params: dict[str, Any]
    group: str | None = Field(description="The key under which events met.")
    about: str | None = Field(description="Type and subject of the event that completed it.")


class FlipView(FiringView):
    """A firing of one side only."""

    why: WhyView


class FieldView(Model):
    """A value of both sides."""

    before: Any
    after: Any


class ChangedView(FiringView):
    """A firing of both sides that asks for something else."""

    fields: dict[str, FieldView] = Field(description="What differs: `key`, `partition`, `lane`, `at`, `params.NAME`.")


class FailingView(Model):
    """Events on which the new rule fails."""

    events: list[str]
    at: Moment
    why: WhyView


class ReasonView(Model):
    """How many go back to one clause."""

    outcome: str
    clause: str | None
    n: int


class TriggerDiffView(Model):
    """What a trigger would do differently."""

    trigger: str
    version_before: str | None = Field(description="Null: there is no such trigger in force.")
    version_after: str | None = Field(description="Null: it is gone.")
    events: int = Field(description="That it was asked about.")
    before: dict[str, int] = Field(description="Exact numbers by outcome.")
    after: dict[str, int]
    same: int = Field(description="Firings of both, alike.")
    gained: int = Field(description="Would fire, and does not.")
    lost: int = Field(description="Fires, and would not any more.")
    changed: int = Field(description="Fires, and would ask for something else.")
    gained_samples: list[FlipView]
    lost_samples: list[FlipView]
    changed_samples: list[ChangedView]
    failing_samples: list[FailingView]
    gained_why: list[ReasonView] = Field(description="Of the first `explained`.")
    lost_why: list[ReasonView]
    explained: int


class BacktestReport(Model):
    """What changed rules would have done. Nothing was started or stored."""

    baseline: Literal["in_force", "recorded"]
    since: Moment
    until: Moment
    reached: Moment = Field(description="How far it came: `until`, unless it was stopped.")
    warm_from: Moment | None = Field(description="From where on events were read for what was open at `since`.")
    events: int
    stopped: str | None = Field(description="Why not all events were judged.")
    differs: bool
    early: int = Field(description="Firings told before the other side had its last chance: too many waited.")
    seconds: float
    triggers: list[TriggerDiffView]
