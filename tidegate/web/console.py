"""The console's routes: read-only pages over what the API knows, and the session of a browser.

A page asks the house directly; what it shows is what the API answers. The token of a session lives in a cookie that no
script sees and no other site can send.
"""

import time
from importlib.resources import files
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sensors.ports import Unavailable
from tidegate.api.asking import HouseDep
from tidegate.api.auth import COOKIE
from tidegate.api.checks_api import list_checks, list_freshness
from tidegate.api.events import show_event
from tidegate.api.house import House
from tidegate.api.lineage import show_lineage
from tidegate.api.models import EventRow
from tidegate.api.models_runs import Lineage, RunRow
from tidegate.api.problems import ApiError
from tidegate.api.runs import read_logs, run_shown
from tidegate.api.sensors_api import sensor_rows
from tidegate.api.triggers_api import trigger_rows
from tidegate.api.views import event_without_row
from tidegate.api.views_alerts import alert_row
from tidegate.api.views_runs import run_row
from tidegate.store.reader import Reader
from tidegate.web.data_pages import dataset_page
from tidegate.web.html import page
from tidegate.web.pages import event_page, login_page, message_page, overview, run_page

router = APIRouter(include_in_schema=False)
_RECENT = 25
_ALERTS = 10
_LINEAGE = 200
_LOG = 1000
_DAY = {"Cache-Control": "public, max-age=300"}


def _now() -> int:
    return time.time_ns() // 1000


@router.get("/")
async def home(house: HouseDep) -> HTMLResponse:
    """Show sensors, triggers, recent runs and alerts."""
    try:
        runs, dead = await house.store.read(_recent)
        found, _ = await house.store.read(lambda reader: reader.alerts(limit=_ALERTS))
        alerts = [alert_row(row, house.rules.current.alerts) for row in found]
        watched = (await list_freshness(house)).items
        body = overview(await sensor_rows(house), await trigger_rows(house), runs, dead, _now(), alerts, watched)
    except Unavailable:
        body = message_page("The store cannot answer now", "This page comes back by itself.")
        return page("Overview", body, status=503, service=house.config.name, live=True)
    return page("Overview", body, service=house.config.name, live=True)


def _recent(reader: Reader) -> tuple[list[tuple[RunRow, EventRow | None]], bool]:
    found: list[tuple[RunRow, EventRow | None]] = []
    for row in reader.runs(limit=_RECENT)[0]:
        events = reader.events_of_run(row["uid"], 1)
        found.append((run_row(row), event_without_row(events[0]) if events else None))
    return found, bool(reader.dead_letters(limit=1)[0])


@router.get("/console/runs/{uid}")
async def run(house: HouseDep, uid: str) -> HTMLResponse:
    """Show a run with its tasks, lineage and log."""
    try:
        shown = await run_shown(house, uid)
        logs = await read_logs(house, uid, after=0, limit=_LOG)
    except ApiError as error:
        return _missing(house, error)
    body = run_page(shown, logs, await _lineage(house, run=uid), _now())
    return page(shown.pipeline, body, service=house.config.name, live=not shown.state.final)


@router.get("/console/datasets/{name:path}")
async def dataset(house: HouseDep, name: str) -> HTMLResponse:
    """Show how fresh a dataset is, and what its checks found last."""
    try:
        shown = await list_checks(house, name)
    except ApiError as error:
        return _missing(house, error)
    return page(name, dataset_page(shown, _now()), service=house.config.name)


@router.get("/console/events/{uid}")
async def event(house: HouseDep, uid: str) -> HTMLResponse:
    """Show an event with its decisions, lineage and content."""
    try:
        shown = await show_event(house, uid)
    except ApiError as error:
        return _missing(house, error)
    body = event_page(shown, await _lineage(house, event=uid), _now())
    return page(shown.type, body, service=house.config.name)


def _missing(house: House, error: ApiError) -> HTMLResponse:
    return page("Not found", message_page("Not found", str(error)), status=error.status, service=house.config.name)


async def _lineage(house: House, *, event: str | None = None, run: str | None = None) -> Lineage | None:
    try:
        return await show_lineage(house, event=event, run=run, limit=_LINEAGE)
    except ApiError:
        return None


@router.get("/console/login")
async def login_form(request: Request) -> HTMLResponse:
    """Ask for a token."""
    return page("Log in", login_page(refused="refused" in request.query_params))


@router.post("/console/login")
async def login(request: Request) -> Response:
    """Open a session with a token that opens something."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
    token = fields.get("token", [""])[0].strip()
    if await request.app.state.auth.tokens.find(token) is None:
        return RedirectResponse("/console/login?refused", 303)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/")
    return answer


@router.post("/console/logout")
async def logout() -> Response:
    """End a browser's session."""
    answer = RedirectResponse("/console/login", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


@router.get("/console/style.css")
async def style() -> Response:
    """Serve the style sheet."""
    return Response(files("tidegate.web").joinpath("console.css").read_bytes(), media_type="text/css", headers=_DAY)


@router.get("/console/console.js")
async def script() -> Response:
    """Serve the script that keeps pages fresh."""
    asset = files("tidegate.web").joinpath("console.js").read_bytes()
    return Response(asset, media_type="text/javascript", headers=_DAY)
