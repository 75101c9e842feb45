"""What requests may ask with: pages, uids, names, moments; and how routes reach the house.

Cursors are opaque: the list they belong to is part of them, and one from elsewhere is refused with 422.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, AwareDatetime

from sensors.event import storable_text
from tidegate.api.house import House
from tidegate.api.models_runs import micros
from tidegate.api.problems import ApiError
from tidegate.store.reader import Reader

R = TypeVar("R")
_BODY = "[0-9a-hjkmnp-tv-z]{26}"


def _storable(text: str) -> str:
    if not storable_text(text):
        raise ValueError("must hold neither NUL nor lone surrogates")
    return text


_Clean = AfterValidator(_storable)
_NO_NUL = r"^[^\x00]*$"

EventUid = Annotated[str, Path(pattern=f"^evt_{_BODY}$")]
RunUid = Annotated[str, Path(pattern=f"^run_{_BODY}$")]
TokenUid = Annotated[str, Path(pattern=f"^tok_{_BODY}$")]
ReplayUid = Annotated[str, Path(pattern=f"^rpl_{_BODY}$")]
DeadLetterUid = Annotated[str, Path(pattern=f"^ddl_{_BODY}$")]
Name = Annotated[str, Path(min_length=1, max_length=256)]
EventUidQuery = Annotated[str | None, Query(pattern=f"^evt_{_BODY}$")]
RunUidQuery = Annotated[str | None, Query(pattern=f"^run_{_BODY}$")]
TextQuery = Annotated[str | None, Query(min_length=1, max_length=1024, pattern=_NO_NUL), _Clean]
MomentQuery = Annotated[AwareDatetime | None, Query(description="RFC 3339.")]


def house_of(request: Request) -> House:
    """Return the house that this application serves."""
    return cast("House", request.app.state.house)


HouseDep = Annotated[House, Depends(house_of)]


@dataclass(frozen=True, slots=True)
class PageAsk:
    """How much of a list, and from where."""

    limit: int
    cursor: str | None


def page_ask(
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[
        str | None, Query(min_length=1, max_length=1024, pattern=r"^[A-Za-z0-9_-]+$", description="From the last page.")
    ] = None,
) -> PageAsk:
    """Read the two parameters that every list takes."""
    return PageAsk(limit, cursor)


PageDep = Annotated[PageAsk, Depends(page_ask)]


def opened(ask: PageAsk, list_name: str) -> str | None:
    """Return the store's cursor inside the caller's. Raises 422 for one that this list did not hand out."""
    if ask.cursor is None:
        return None
    try:
        text = base64.b64decode(ask.cursor + "=" * (-len(ask.cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    name, _, cursor = text.partition(":")
    if name != list_name or not cursor:
        raise _foreign_cursor()
    return cursor


def sealed(cursor: str | None, list_name: str) -> str | None:
    """Wrap the store's cursor for the caller."""
    if cursor is None:
        return None
    return base64.urlsafe_b64encode(f"{list_name}:{cursor}".encode()).decode().rstrip("=")


async def read_page(
    house: House, ask: PageAsk, list_name: str, fn: Callable[[Reader, str | None], tuple[Any, str | None]]
) -> tuple[Any, str | None]:
    """Read one page: `fn` gets the reader and the store's cursor; what comes back carries the caller's next cursor."""
    cursor = opened(ask, list_name)
    try:
        rows, following = await house.store.read(lambda reader: fn(reader, cursor))
    except (ValueError, OverflowError):
        if cursor is None:
            raise
        raise _foreign_cursor() from None
    return rows, sealed(following, list_name)


def _foreign_cursor() -> ApiError:
    return ApiError(422, "query.cursor: it is not one that this list handed out; ask for the first page again")


def at(moment: AwareDatetime | None) -> int | None:
    """Return a moment as UTC microseconds."""
    return None if moment is None else micros(moment)
