"""What the API answers about replays, and how one is asked for. Every field is always present in answers."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from tidegate.api.models import Model, Moment, Paged
from tidegate.api.models_runs import Text
from tidegate.store.replay_records import ReplayState

_BODY = "[0-9a-hjkmnp-tv-z]{26}"
MOST_NAMED = 1_000
_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)/(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600}
FASTEST = 1_000.0


def rate_of(text: str) -> float:
    """Return runs per second of `5/s`, `30/m` or `100/h`. Raises ValueError."""
    found = _RATE.fullmatch(text)
    rate = float(found[1]) / _SECONDS[found[2]] if found else 0.0
    if not 0 < rate <= FASTEST:
        raise ValueError(f"must be a number per s, m or h, such as 5/s, above 0 and at most {FASTEST:.0f}/s")
    return rate


def _is_rate(text: str) -> str:
    rate_of(text)
    return text


Rate = Annotated[
    str,
    Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})?/[smh]$", description="Runs per second, minute or hour: `5/s`."),
    AfterValidator(_is_rate),
]
EventUid = Annotated[str, Field(pattern=f"^evt_{_BODY}$")]
LetterUid = Annotated[str, Field(pattern=f"^ddl_{_BODY}$")]


class StartReplay(BaseModel):
    """What to replay: `events`, or `dead_letters` of stored events, or what came for a `trigger` in [since, until)."""

    model_config = ConfigDict(extra="forbid")

    events: list[EventUid] = Field(default_factory=list, max_length=MOST_NAMED)
    dead_letters: list[LetterUid] = Field(default_factory=list, max_length=MOST_NAMED)
    trigger: Text | None = Field(default=None, description="With events: only by this trigger.")
    since: AwareDatetime | None = None
    until: AwareDatetime | None = Field(default=None, description="Not included; the moment of the request if null.")
    partition: Text | None = Field(default=None, description="Only runs of this partition.")
    pipeline: Text | None = Field(default=None, description="Start this pipeline instead of the rules' own.")
    as_was: bool = Field(default=False, description="Repeat what was decided then, instead of judging anew.")
    rate: Rate | None = None
    dry_run: bool = Field(default=False, description="Start nothing; count what would start, and what would not.")
    request_id: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[!-~]+$")] | None = Field(
        default=None, description="The same id is the same replay; as the header `Idempotency-Key`."
    )


class ReplayView(Model):
    """What a replay was asked for."""

    events: list[str]
    dead_letters: list[str]
    trigger: str | None
    since: Moment | None
    until: Moment | None
    partition: str | None
    pipeline: str | None
    as_was: bool
    rate: float | None = Field(description="Runs per second.")
    dry_run: bool


class SampleView(Model):
    """One of a few examples of what became of causes. `cause`: an event, or the trigger event that is repeated."""

    outcome: str
    cause: str
    reason: str
    trigger: str | None
    item: int | None
    pipeline: str | None
    partition: str | None
    origin: str | None = Field(description="The run that is replayed.")


class ReplayRow(Model):
    """A replay and how far it has come."""

    uid: str
    request_id: str
    state: ReplayState
    asked: ReplayView
    counts: dict[str, int] = Field(description="Exact: `looked` at, runs `started`, and the others by outcome.")
    created_at: Moment
    finished_at: Moment | None
    reason: str = Field(description="Why it failed, was cancelled, or waits.")


class ReplayPage(Paged):
    """Replays."""

    items: list[ReplayRow]


class ReplayDetail(ReplayRow):
    """A replay with samples of what became of its causes."""

    samples: list[SampleView]


class ReplayedRow(Model):
    """A run of a replay, and what it stands for. Fields of a run that is past its retention are null."""

    run: str
    cause: str
    trigger: str
    rule: int
    item: int | None
    origin: str | None
    pipeline: str | None
    state: str | None
    partition: str | None
    generation: int | None


class ReplayedPage(Paged):
    """Runs of a replay."""

    items: list[ReplayedRow]


class CancelReplay(BaseModel):
    """Why a replay shall go no further."""

    model_config = ConfigDict(extra="forbid")

    reason: Text = "cancelled by an operator"


def sample_fields(sample: Any) -> dict[str, Any]:
    """Return all fields of a sample, null where it has none."""
    return {name: sample.get(name) for name in SampleView.model_fields}
