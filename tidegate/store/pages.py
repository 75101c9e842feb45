"""Opaque page cursors: where the last page ended, as URL-safe text."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson


class BadCursor(ValueError):
    """The page cursor is not one that was handed out; ask for the first page again."""


def encode(place: Sequence[Any]) -> str:
    """Encode the place (text and numbers) at which the last page ended."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def decode(cursor: str | None, *shape: type) -> Sequence[Any] | None:
    """Decode a cursor whose place has this shape; None stays None. Raises BadCursor."""
    if cursor is None:
        return None
    try:
        place = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, orjson.JSONDecodeError, ValueError) as error:
        raise BadCursor(f"{cursor!r} is not a cursor of this list; ask for the first page again.") from error
    if not isinstance(place, list) or [type(part) for part in place] != list(shape):
        raise BadCursor(f"{cursor!r} is not a cursor of this list; ask for the first page again.")
    return place


def page(rows: Sequence[Any], limit: int, place: Sequence[Sequence[Any]]) -> tuple[Sequence[Any], str | None]:
    """Cut `limit` rows off what was asked for with one more; `place` holds each row's place."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], encode(place[limit - 1]) if limit else None
