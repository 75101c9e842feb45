"""Runs: list, show, read their logs, start, cancel, resume."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Response

from pipelines.params import check_params
from pipelines.pipeline import PipelineDef, from_json
from pipelines.run import Run, RunState, TaskRun, TaskState
from sensors.event import Event, storable_text
from tidegate.api.asking import EventUidQuery, HouseDep, MomentQuery, PageDep, RunUid, TextQuery, at, read_page
from tidegate.api.drawing import GraphFormat, drawn
from tidegate.api.house import House
from tidegate.api.models_runs import (
    CancelRun,
    LogPage,
    NotResumed,
    Resumed,
    ResumeRuns,
    RunDetail,
    RunPage,
    RunRow,
    RunStateAnswer,
    SlicePage,
    StartRun,
)
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError, Fault, not_found, printable
from tidegate.api.views_checks import check_view
from tidegate.api.views_runs import log_row, run_detail, run_row, run_value_row, task_view
from tidegate.graphs.nodes import run_nodes
from tidegate.start import StartAsk, UnknownPipeline, UnknownRun
from tidegate.store.reader import Reader, Row

router = APIRouter(prefix="/api/v1/runs", tags=["runs"])
EVENTS_SHOWN = 100
_BULK = 1000

RunFacts = tuple[Run, list[TaskRun], list[Event], PipelineDef | None, Mapping[str, Mapping[str, int]]]


@router.get("", responses=problems(422), summary="List runs, newest first")
async def list_runs(
    house: HouseDep,
    page: PageDep,
    pipeline: TextQuery = None,
    state: Annotated[RunState | None, Query()] = None,
    trigger: TextQuery = None,
    event: EventUidQuery = None,
    partition: TextQuery = None,
    since: MomentQuery = None,
    until: MomentQuery = None,
) -> RunPage:
    """List runs. Filters are exact; `since` and `until` are about creation."""
    rows, following = await read_page(
        house,
        page,
        "runs",
        lambda reader, cursor: reader.runs(
            limit=page.limit,
            cursor=cursor,
            pipeline=pipeline,
            state=None if state is None else str(state),
            trigger=trigger,
            event=event,
            partition=partition,
            since=at(since),
            until=at(until),
        ),
    )
    return RunPage(items=[run_row(row) for row in rows], cursor=following)


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": RunRow, "description": "The key was used before; this is its run."},
        **problems(413, 422),
    },
    summary="Start a run",
)
async def start_run(house: HouseDep, ask: StartRun, response: Response) -> RunRow:
    """Start a run by hand, with parameters checked against the pipeline's. It does not touch any trigger's keys."""
    pipeline = house.rules.current.pipelines.get(ask.pipeline)
    if pipeline is None:
        raise _no_pipeline(ask.pipeline)
    if not all(storable_text(name) for name in ask.params):
        raise ApiError(422, "body.params: names must hold neither NUL nor lone surrogates")
    params = check_params(pipeline.definition.params, ask.params)
    wanted = StartAsk(pipeline=ask.pipeline, params=params, partition=ask.partition, key=ask.key)
    try:
        run, new = await house.start_run(wanted)
    except UnknownPipeline as error:
        raise _no_pipeline(ask.pipeline) from error
    response.headers["Location"] = f"/api/v1/runs/{run.uid}"
    response.status_code = 201 if new else 200
    return run_value_row(run)


def _no_pipeline(name: str) -> ApiError:
    detail = f"there is no pipeline {printable(name)}"
    return ApiError(422, detail, errors=[Fault(pointer="body.pipeline", detail=detail)])


@router.post("/resume", responses=problems(413, 422), summary="Resume many runs")
async def resume_runs(house: HouseDep, ask: ResumeRuns) -> Resumed:
    """Resume the runs that ended so within the time given, oldest first; with `dry_run`, only tell which."""
    uids, more = await house.store.read(lambda reader: _matching(reader, ask))
    resumed: list[str] = []
    refused: list[NotResumed] = []
    for uid in [] if ask.dry_run else uids:
        try:
            resumed.append((await house.resume_run(uid)).uid)
        except UnknownRun as error:
            refused.append(NotResumed(run=uid, reason=_sentence(error)))
    return Resumed(dry_run=ask.dry_run, matched=uids, resumed=resumed, refused=refused, more=more)


def _matching(reader: Reader, ask: ResumeRuns) -> tuple[list[str], bool]:
    """Return the uids of the runs that match, oldest first, at most 1,000."""
    found: list[Row] = []
    cursor: str | None = None
    while len(found) <= _BULK:
        rows, cursor = reader.runs(
            limit=500,
            cursor=cursor,
            pipeline=ask.pipeline,
            state=ask.status,
            since=at(ask.since),
            until=at(ask.until),
        )
        found.extend(rows)
        if cursor is None:
            break
    return [row["uid"] for row in reversed(found[:_BULK])], len(found) > _BULK


@router.get("/{uid}", responses=problems(404, 422), summary="Show a run")
async def show_run(house: HouseDep, uid: RunUid) -> RunDetail:
    """Show a run with its parameters, causing events and tasks."""
    return await run_shown(house, uid)


async def run_shown(house: House, uid: str) -> RunDetail:
    """Return a run in full. Raises 404."""
    facts = await house.store.read(lambda reader: _facts(reader, uid))
    if facts is None:
        raise not_found(f"run {uid}; it may be past its retention")
    checks = await house.store.read(lambda reader: reader.run_checks(uid))
    return run_detail(*facts).model_copy(update={"checks": [check_view(row) for row in checks]})


@router.get("/{uid}/graph", responses=problems(404, 422), summary="Draw a run")
async def draw_run(house: HouseDep, uid: RunUid, format: GraphFormat = "svg") -> Response:
    """Draw the graph of a run's tasks with their states."""
    shown = await run_shown(house, uid)
    return drawn(run_nodes([task.model_dump() for task in shown.tasks]), format)


@router.get("/{uid}/slices", responses=problems(404, 422), summary="List the partitions of a run's tasks")
async def list_slices(
    house: HouseDep,
    uid: RunUid,
    page: PageDep,
    task: TextQuery = None,
    state: Annotated[TaskState | None, Query()] = None,
) -> SlicePage:
    """List the slices of the tasks of a run that fan out, in the order of their elements."""
    if await house.store.read(lambda reader: reader.run(uid)) is None:
        raise not_found(f"run {uid}; it may be past its retention")
    wanted = None if state is None else str(state)
    rows, following = await read_page(
        house,
        page,
        "slices",
        lambda reader, cursor: reader.slices(uid, limit=page.limit, cursor=cursor, task=task, state=wanted),
    )
    return SlicePage(items=[task_view(row, []) for row in rows], cursor=following)


def _facts(reader: Reader, uid: str) -> RunFacts | None:
    run = reader.run(uid)
    if run is None:
        return None
    text = reader.definition(run.definition)
    return (
        run,
        list(reader.nodes(uid)),
        list(reader.events_of_run(uid, EVENTS_SHOWN)),
        None if text is None else from_json(text),
        reader.slice_counts(uid),
    )


@router.get("/{uid}/logs", responses=problems(404, 422), summary="Read a run's log")
async def read_logs(
    house: HouseDep,
    uid: RunUid,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="The position that the last page reached.")] = 0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
    task: TextQuery = None,
) -> LogPage:
    """Read the lines that follow a position, in order."""
    found = await house.store.read(lambda reader: _logs(reader, uid, after, limit, task))
    if found is None:
        raise not_found(f"run {uid}; it may be past its retention")
    rows, reached, run = found
    final = run.state.final and len(rows) < limit
    return LogPage(lines=[log_row(row) for row in rows], after=reached, final=final)


def _logs(reader: Reader, uid: str, after: int, limit: int, task: str | None) -> tuple[list[Row], int, Run] | None:
    run = reader.run(uid)
    if run is None:
        return None
    rows, reached = reader.logs(uid, after=after, limit=limit, task=task)
    return list(rows), reached, run


@router.post("/{uid}/cancel", status_code=202, responses=problems(404, 409, 413, 422), summary="Cancel a run")
async def cancel_run(house: HouseDep, uid: RunUid, why: CancelRun | None = None) -> RunStateAnswer:
    """Ask a run to stop: a queued one ends at once, a running one when its tasks are stopped."""
    before = await house.store.read(lambda reader: reader.run(uid))
    if before is not None and before.state.final:
        raise ApiError(409, f"run {uid} has {before.state} already; there is nothing to cancel")
    state = await house.cancel_run(uid, (why or CancelRun()).reason)
    if state is None:
        raise not_found(f"run {uid}")
    return RunStateAnswer(uid=uid, state=RunState(state))


@router.post("/{uid}/resume", status_code=201, responses=problems(404, 409, 422), summary="Resume a run")
async def resume_run(house: HouseDep, uid: RunUid, response: Response) -> RunRow:
    """Open a new generation of a run that failed or was cancelled: what succeeded is kept, the rest runs again."""
    if await house.store.read(lambda reader: reader.run(uid)) is None:
        raise not_found(f"run {uid}; it may be past its retention")
    try:
        run = await house.resume_run(uid)
    except UnknownRun as error:
        raise ApiError(409, _sentence(error)) from error
    response.headers["Location"] = f"/api/v1/runs/{run.uid}"
    return run_value_row(run)


def _sentence(error: UnknownRun) -> str:
    return str(error.args[0]) if error.args else "it cannot be resumed"
