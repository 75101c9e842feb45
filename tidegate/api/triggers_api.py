"""Triggers: what they decided, and pausing them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query

from tidegate.api.asking import EventUidQuery, HouseDep, MomentQuery, Name, PageDep, at, read_page
from tidegate.api.house import House
from tidegate.api.models import DecisionPage, Pause, TriggerList, TriggerRow
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError, not_found
from tidegate.api.views import decision_row
from tidegate.api.views_runs import trigger_counts, trigger_row
from tidegate.store.reader import Reader
from triggers.counting import Counts
from triggers.decision import Outcome
from triggers.trigger import Trigger

router = APIRouter(prefix="/api/v1/triggers", tags=["triggers"])
_KINDS = ("trigger", "candidates", "matched", "dead")


def _counters(reader: Reader) -> dict[str, Counts]:
    return {kind: reader.counts(kind) for kind in _KINDS}


def _known(house: House, name: str) -> Trigger:
    trigger = house.config.triggers.get(name)
    if trigger is None:
        raise not_found(f"trigger {name}")
    return trigger


async def trigger_rows(house: House, only: str | None = None) -> list[TriggerRow]:
    """Return configured triggers (all, or one) with exact counts."""
    counters = await house.store.read(_counters)
    config, rules = house.config, house.rules.current
    return [
        trigger_row(
            trigger, rules.paused.get(name, trigger.paused), trigger_counts(trigger, rules.config_hash, counters)
        )
        for name, trigger in config.triggers.items()
        if only in (None, name)
    ]


async def _row(house: House, name: str) -> TriggerRow:
    rows = await trigger_rows(house, name)
    if not rows:
        raise not_found(f"trigger {name}")
    return rows[0]


@router.get("", responses=problems(), summary="List triggers")
async def list_triggers(house: HouseDep) -> TriggerList:
    """List all triggers with exact counts by outcome. `filtered` counts since the configuration last changed."""
    return TriggerList(items=await trigger_rows(house))


@router.get("/{name}", responses=problems(404, 422), summary="Show a trigger")
async def show_trigger(house: HouseDep, name: Name) -> TriggerRow:
    """Show a trigger."""
    _known(house, name)
    return await _row(house, name)


@router.get("/{name}/decisions", responses=problems(404, 422), summary="List a trigger's decisions, newest first")
async def list_decisions(
    house: HouseDep,
    name: Name,
    page: PageDep,
    outcome: Annotated[Outcome | None, Query()] = None,
    event: EventUidQuery = None,
    since: MomentQuery = None,
    until: MomentQuery = None,
) -> DecisionPage:
    """List stored decisions: all that fired, are open or failed, and samples of the filtered ones.

    `since` is inclusive, `until` exclusive; what an event that is not among them came to is told by its explanation.
    """
    rows, following = await read_page(
        house,
        page,
        "decisions",
        lambda reader, cursor: reader.decisions(
            limit=page.limit,
            cursor=cursor,
            trigger=name,
            event=event,
            outcome=None if outcome is None else str(outcome),
            since=at(since),
            until=at(until),
        ),
    )
    if not rows:
        _known(house, name)  # what a trigger decided that is gone can still be read
    return DecisionPage(items=[decision_row(row) for row in rows], cursor=following)


def _enabled(house: House, name: str) -> None:
    if not _known(house, name).enabled:
        raise ApiError(409, f"trigger {name} is disabled in the configuration")


@contextmanager
def _reloading(name: str) -> Iterator[None]:
    """Say that a trigger has just gone with a reload instead of failing."""
    try:
        yield
    except KeyError as error:
        raise not_found(f"trigger {name}") from error


@router.post("/{name}/pause", responses=problems(404, 409, 413, 422), summary="Pause a trigger")
async def pause_trigger(house: HouseDep, name: Name, how: Pause | None = None) -> TriggerRow:
    """Pause a trigger until it is resumed; a restart does not end it."""
    _enabled(house, name)
    with _reloading(name):
        await house.pause_trigger(name, (how or Pause()).how)
    return await _row(house, name)


@router.post("/{name}/resume", responses=problems(404, 409, 422), summary="Let a paused trigger go on")
async def resume_trigger(house: HouseDep, name: Name) -> TriggerRow:
    """Let a paused trigger go on; nothing happens to one that is not paused."""
    _enabled(house, name)
    with _reloading(name):
        await house.pause_trigger(name, None)
    return await _row(house, name)
