"""Dead letters: what could not become an event, or could not be judged, with its reason and its bytes."""

from fastapi import APIRouter

from tidegate.api.asking import DeadLetterUid, HouseDep, PageDep, TextQuery, read_page
from tidegate.api.models import DeadLetterDetail, DeadLetterPage
from tidegate.api.openapi import problems
from tidegate.api.problems import not_found
from tidegate.api.views import dead_letter_detail, dead_letter_row
from tidegate.operations import DropDeadLetters

router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"])


@router.get("", responses=problems(422), summary="List dead letters, newest first")
async def list_dead_letters(house: HouseDep, page: PageDep, sensor: TextQuery = None) -> DeadLetterPage:
    """List dead letters without their payload."""
    rows, following = await read_page(
        house,
        page,
        "dead-letters",
        lambda reader, cursor: reader.dead_letters(limit=page.limit, cursor=cursor, sensor=sensor),
    )
    return DeadLetterPage(items=[dead_letter_row(row) for row in rows], cursor=following)


@router.get("/{uid}", responses=problems(404, 422), summary="Show a dead letter")
async def show_dead_letter(house: HouseDep, uid: DeadLetterUid) -> DeadLetterDetail:
    """Show a dead letter with its payload."""
    row = await house.store.read(lambda reader: reader.dead_letter(uid))
    if row is None:
        raise not_found(f"dead letter {uid}")
    return dead_letter_detail(row)


@router.delete("/{uid}", status_code=204, responses=problems(404, 422), summary="Drop a dead letter")
async def drop_dead_letter(house: HouseDep, uid: DeadLetterUid) -> None:
    """Delete a dead letter for good. An event that it names stays."""
    if not await house.store.submit(DropDeadLetters(), uid):
        raise not_found(f"dead letter {uid}")
