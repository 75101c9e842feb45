"""What the API answers about dead letters that are tried again."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tidegate.api.models import Model
from tidegate.api.models_runs import Text


class RetryLetters(BaseModel):
    """Which dead letters to try again: those of a sensor, of a reason, or both; oldest first."""

    model_config = ConfigDict(extra="forbid")

    sensor: Text | None = None
    reason: Text | None = None
    dry_run: bool = False


class LetterRetried(Model):
    """What became of a dead letter. `refused` and `impossible` leave it as it is."""

    uid: str
    outcome: Literal["event", "replay", "again", "refused", "impossible"] = Field(
        description="`event`: stored now; `replay`: judged again by a replay; `again`: its source is looked at again; "
        "`refused`: still wrong; `impossible`: it cannot be tried."
    )
    became: str | None = Field(description="The event, or the replay.")
    detail: str


class LettersRetried(Model):
    """What a bulk retry did, or would try. `more`: there were over 1,000; ask again."""

    dry_run: bool
    matched: list[str]
    items: list[LetterRetried]
    more: bool
