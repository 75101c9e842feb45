"""Reloads: what each did to the triggers and to the keys that wait for them."""

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from tidegate.api.asking import HouseDep
from tidegate.api.models import Model, Moment
from tidegate.api.openapi import problems
from tidegate.api.views import moment
from tidegate.reloaded import REPORTS, Reloaded, reports

router = APIRouter(prefix="/api/v1/reloads", tags=["triggers"])


class TriggerChangeView(Model):
    """What became of one trigger, and of the keys that wait for its pattern."""

    trigger: str
    change: Literal["added", "removed", "changed"]
    what: list[str] = Field(description="What changed in it, as it is written.")
    kept: int = Field(description="Keys that wait on as before.")
    carried: int = Field(
        description="Keys that wait on under the changed pattern; parts that changed lost their events."
    )
    given_up: int = Field(description="Keys that were given up; a decision of each says so.")
    waiting: int = Field(description="Keys that wait for a trigger which is gone, until they are due.")
    words: str


class ReloadView(Model):
    """One reload (or start with other triggers) of one process."""

    at: Moment
    by: str = Field(description="The process.")
    config: str = Field(description="The hash of the configuration in force since.")
    refused: str | None = Field(description="Why it changed nothing; null when it was put in force.")
    triggers: list[TriggerChangeView]


class ReloadList(Model):
    """The last reloads of all processes, newest first."""

    items: list[ReloadView]


@router.get("", responses=problems(), summary="Tell what reloads did")
async def list_reloads(house: HouseDep) -> ReloadList:
    """Tell of the last 50 reloads which triggers came, went and changed, and what became of the keys that wait."""
    found = await house.store.read(lambda reader: reader.settings(REPORTS))
    return ReloadList(items=[_view(one) for one in reports(found)])


def _view(one: Reloaded) -> ReloadView:
    changes = [
        TriggerChangeView(
            trigger=change.trigger,
            change=change.change,
            what=list(change.what),
            kept=change.kept,
            carried=change.carried,
            given_up=change.given_up,
            waiting=change.waiting,
            words=change.words,
        )
        for change in one.triggers
    ]
    return ReloadView(at=moment(one.at), by=one.by, config=one.config, refused=one.refused or None, triggers=changes)
