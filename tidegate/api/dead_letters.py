"""Dead letters: what could not become an event, or could not be judged, with its reason and its bytes."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from tidegate.api.asking import DeadLetterUid, HouseDep, PageDep, TextQuery, read_page
from tidegate.api.models import DeadLetterDetail, DeadLetterPage
from tidegate.api.models_letters import LetterRetried, LettersRetried, RetryLetters
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError, Fault, not_found
from tidegate.api.views import dead_letter_detail, dead_letter_row
from tidegate.operations import DropDeadLetters
from tidegate.store.reader import Reader

router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"])
_BULK = 1000
RetriedQuery = Annotated[
    bool | None, Query(description="Only those that were tried again and are dealt with, or only the others.")
]


@router.get("", responses=problems(422), summary="List dead letters, newest first")
async def list_dead_letters(
    house: HouseDep,
    page: PageDep,
    sensor: TextQuery = None,
    reason: TextQuery = None,
    retried: RetriedQuery = None,
) -> DeadLetterPage:
    """List dead letters without their payload."""
    rows, following = await read_page(
        house,
        page,
        "dead-letters",
        lambda reader, cursor: reader.dead_letters(
            limit=page.limit, cursor=cursor, sensor=sensor, reason=reason, retried=retried
        ),
    )
    return DeadLetterPage(items=[dead_letter_row(row) for row in rows], cursor=following)


@router.post("/retry", responses=problems(413, 422), summary="Try many dead letters again")
async def retry_dead_letters(house: HouseDep, ask: RetryLetters) -> LettersRetried:
    """Try again what waits of a sensor, or of a reason, oldest first; with `dry_run`, only tell which."""
    if ask.sensor is None and ask.reason is None:
        detail = "name a sensor, a reason, or both"
        raise ApiError(422, f"body: {detail}", errors=[Fault(pointer="body", detail=detail)])
    uids, more = await house.store.read(lambda reader: _matching(reader, ask))
    answers = [] if ask.dry_run else await house.letters.retry_all(uids)
    items = [LetterRetried(**asdict(answer)) for answer in answers]
    return LettersRetried(dry_run=ask.dry_run, matched=uids, items=items, more=more)


def _matching(reader: Reader, ask: RetryLetters) -> tuple[list[str], bool]:
    """Return the uids of letters that match and wait, oldest first, at most 1,000."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        rows, cursor = reader.dead_letters(
            limit=500, cursor=cursor, sensor=ask.sensor, reason=ask.reason, retried=False
        )
        found = [*found, *(row["uid"] for row in rows)][-_BULK - 1 :]
        if cursor is None:
            return list(reversed(found))[:_BULK], len(found) > _BULK


@router.get("/{uid}", responses=problems(404, 422), summary="Show a dead letter")
async def show_dead_letter(house: HouseDep, uid: DeadLetterUid) -> DeadLetterDetail:
    """Show a dead letter with its payload."""
    row = await house.store.read(lambda reader: reader.dead_letter(uid))
    if row is None:
        raise not_found(f"dead letter {uid}")
    return dead_letter_detail(row)


@router.post("/{uid}/retry", responses=problems(404, 422), summary="Try a dead letter again")
async def retry_dead_letter(house: HouseDep, uid: DeadLetterUid) -> LetterRetried:
    """Judge its event again, or read again what it kept, by today's configuration.

    What comes of it is made durable together with the note that the letter is dealt with. A letter that is still wrong,
    or that cannot be tried, stays as it is.
    """
    try:
        return LetterRetried(**asdict(await house.letters.retry(uid)))
    except KeyError:
        raise not_found(f"dead letter {uid}") from None


@router.delete("/{uid}", status_code=204, responses=problems(404, 422), summary="Drop a dead letter")
async def drop_dead_letter(house: HouseDep, uid: DeadLetterUid) -> None:
    """Delete a dead letter for good. An event that it names stays."""
    if not await house.store.submit(DropDeadLetters(), uid):
        raise not_found(f"dead letter {uid}")
