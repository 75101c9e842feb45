"""Alerts: what people are told, to whom it got, what could not be delivered and why."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from tidegate.api.asking import HouseDep, Name, PageDep, TextQuery, read_page
from tidegate.api.models_alerts import AlertPage, TrialAnswer
from tidegate.api.openapi import problems
from tidegate.api.problems import not_found
from tidegate.api.views_alerts import alert_row, trial_answer

router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])
StateQuery = Annotated[Literal["pending", "sent", "failed", "suppressed"] | None, Query()]


@router.get("", responses=problems(422), summary="List alerts, newest first")
async def list_alerts(
    house: HouseDep, page: PageDep, route: TextQuery = None, kind: TextQuery = None, state: StateQuery = None
) -> AlertPage:
    """List alerts of all routes, each with the attempts to deliver it."""
    rows, following = await read_page(
        house,
        page,
        "alerts",
        lambda reader, cursor: reader.alerts(limit=page.limit, cursor=cursor, route=route, kind=kind, state=state),
    )
    alerts = house.rules.current.alerts
    return AlertPage(items=[alert_row(row, alerts) for row in rows], cursor=following)


@router.post("/{name}/test", responses=problems(404, 422), summary="Send a test message to a route's targets")
async def test_alert(house: HouseDep, name: Name) -> TrialAnswer:
    """Send a test message to every target of a route, once, and say what happened."""
    try:
        return trial_answer(name, await house.test_alert(name))
    except KeyError:
        raise not_found(f"route {name} of alerts") from None
