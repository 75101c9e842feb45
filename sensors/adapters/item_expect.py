"""What an API's items must be like, and what becomes of one that is not: a dead letter that says how it differs. Pure.

An item is compared as a row of one: its fields are the columns. One that is no object lacks all of them.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from sensors.adapters.column_types import normal_type
from sensors.adapters.expectations import compare_columns
from sensors.adapters.json_head import kind_of
from sensors.adapters.shapes import Column, Shape, clean
from sensors.batch import DeadLetter
from sensors.event import Event

REASON: Final = "refused"


class ItemExpect(BaseModel):
    """What each new or changed item must be like; one that is not is refused before any trigger sees it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...] | Mapping[str, str] = Field(min_length=1)
    mode: Literal["exact", "at_least"] = "at_least"

    @field_validator("columns")
    @classmethod
    def _types(cls, value: tuple[str, ...] | Mapping[str, str]) -> tuple[str, ...] | Mapping[str, str]:
        if isinstance(value, Mapping):
            return {name: normal_type(kind) for name, kind in value.items()}
        if len(set(value)) < len(value):
            raise ValueError("a column is named twice")
        return value


class Expectation:
    """Judges items."""

    def __init__(self, options: ItemExpect) -> None:
        columns = options.columns
        self._columns: Mapping[str, str | None] = columns if isinstance(columns, Mapping) else dict.fromkeys(columns)
        self._mode = options.mode

    def letter(self, item: Any, event: Event) -> DeadLetter | None:
        """Return the dead letter of the event that an item would be; None when the item is as expected."""
        row = item if isinstance(item, dict) else {}
        shape = Shape("json", [Column(clean(name), kind_of(value)) for name, value in row.items()], 1, True, "json")
        difference = compare_columns(shape, self._columns, self._mode)
        if not difference:
            return None
        head = {
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "subject": event.subject,
            "time": event.time,
        }
        payload = b'{"event":%b,"data":%b,"difference":%b}' % (
            orjson.dumps(head),
            event.data or b"null",
            orjson.dumps(difference.data()),
        )
        return DeadLetter(
            reason=REASON,
            detail=difference.sentence(),
            position=event.subject or event.id,
            payload=payload,
            content_type="application/json",
            attributes={"type": event.type, "id": event.id},
        )
