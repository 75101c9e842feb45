"""Replays: list, show, start, cancel."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from tidegate.api.asking import HouseDep, PageDep, ReplayUid, read_page
from tidegate.api.house import House
from tidegate.api.models_replays import (
    CancelReplay,
    ReplayDetail,
    ReplayedPage,
    ReplayPage,
    ReplayRow,
    StartReplay,
)
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError, Fault, not_found
from tidegate.api.views_replays import BadReplay, check_spec, replay_detail, replay_row, replayed_row, spec_of
from tidegate.replays.changing import ReplayRefused
from tidegate.replays.letters import NoEvent, named_by
from tidegate.store.replay_records import ReplaySpec, ReplayState

router = APIRouter(prefix="/api/v1/replays", tags=["replays"])
IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=256, pattern=r"^[!-~]+$", description="As `request_id` of the body.")
]


@router.get("", responses=problems(422), summary="List replays, newest first")
async def list_replays(
    house: HouseDep, page: PageDep, state: Annotated[ReplayState | None, Query()] = None
) -> ReplayPage:
    """List replays with exact counts of what they came to so far."""
    rows, following = await read_page(
        house,
        page,
        "replays",
        lambda reader, cursor: reader.replays(
            limit=page.limit, cursor=cursor, state=None if state is None else str(state)
        ),
    )
    return ReplayPage(items=[replay_row(row, house.rules.current) for row in rows], cursor=following)


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": ReplayDetail, "description": "The same request was made before; this is its replay."},
        **problems(409, 413, 422),
    },
    summary="Start a replay",
)
async def start_replay(
    house: HouseDep, ask: StartReplay, response: Response, idempotency_key: IdempotencyKey = None
) -> ReplayDetail:
    """Run again what happened. Returns at once; the replay goes on by itself, restarts included.

    Each run is a new generation of its key and waits in line like any other. A request with the same id and body
    answers the same replay, one with another body is refused with 409.
    """
    if idempotency_key is not None and ask.request_id not in (None, idempotency_key):
        raise _wrong(BadReplay("request_id", "it differs from the header Idempotency-Key"))
    try:
        spec = spec_of(ask)
        check_spec(spec, house.config, house.rules.current)
        spec = await _with_letters(house, spec, ask.dead_letters)
    except BadReplay as error:
        raise _wrong(error) from error
    try:
        replay, new = await house.replays.start(spec, ask.request_id or idempotency_key)
    except ReplayRefused as error:
        raise ApiError(409, str(error.args[0])) from error
    response.headers["Location"] = f"/api/v1/replays/{replay.uid}"
    response.status_code = 201 if new else 200
    return replay_detail(replay, house.rules.current)


async def _with_letters(house: House, spec: ReplaySpec, letters: list[str]) -> ReplaySpec:
    if not letters:
        return spec
    try:
        return await house.store.read(lambda reader: named_by(reader, spec, letters))
    except NoEvent as error:
        raise BadReplay("dead_letters", str(error)) from error


def _wrong(error: BadReplay) -> ApiError:
    pointer = f"body.{error.pointer}"
    return ApiError(422, f"{pointer}: {error}", errors=[Fault(pointer=pointer, detail=str(error))])


@router.get("/{uid}", responses=problems(404, 422), summary="Show a replay")
async def show_replay(house: HouseDep, uid: ReplayUid) -> ReplayDetail:
    """Show a replay: how far it has come, what it started, and a few examples of what it did not, with the reason."""
    replay = await house.store.read(lambda reader: reader.replay(uid))
    if replay is None:
        raise not_found(f"replay {uid}; it may be past its retention")
    return replay_detail(replay, house.rules.current)


@router.get("/{uid}/runs", responses=problems(404, 422), summary="List the runs of a replay, newest first")
async def list_replayed_runs(house: HouseDep, uid: ReplayUid, page: PageDep) -> ReplayedPage:
    """List the runs that a replay started, with what each stands for and the run that it replays."""
    if await house.store.read(lambda reader: reader.replay(uid)) is None:
        raise not_found(f"replay {uid}; it may be past its retention")
    rows, following = await read_page(
        house,
        page,
        "replayed-runs",
        lambda reader, cursor: reader.replayed_runs(uid, limit=page.limit, cursor=cursor),
    )
    return ReplayedPage(items=[replayed_row(row) for row in rows], cursor=following)


@router.post("/{uid}/cancel", responses=problems(404, 409, 413, 422), summary="Cancel a replay")
async def cancel_replay(house: HouseDep, uid: ReplayUid, why: CancelReplay | None = None) -> ReplayRow:
    """Let a replay go no further. What it has started goes on; cancel those runs by themselves."""
    before = await house.replays.cancel(uid, (why or CancelReplay()).reason)
    if before is None:
        raise not_found(f"replay {uid}; it may be past its retention")
    if before.state.final:
        raise ApiError(409, f"replay {uid} has {before.state} already; there is nothing to cancel")
    return await show_replay(house, uid)
