"""A stored event as filters see it, before an event is made of it: columns are decoded when a filter asks for them."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sensors.event import EMPTY, parse_data
from tidegate.backtest.values import EventRow
from triggers.errors import Unreadable

_UNPARSED: Final = object()


class RowRecord:
    """Implements `sensors.ports.Record` for one row after the other."""

    __slots__ = ("_data", "_row", "sensor", "subject", "type")

    def __init__(self) -> None:
        self._row: EventRow = ()
        self._data: Any = _UNPARSED
        self.sensor = self.type = ""
        self.subject: str | None = None

    def show(self, row: EventRow) -> None:
        """Be this row."""
        self._row = row
        self._data = _UNPARSED
        self.sensor, self.type, self.subject = row[1], row[4], row[5]

    @property
    def id(self) -> str:
        """The event's id."""
        return str(self._row[2])

    @property
    def source(self) -> str:
        """The event's source."""
        return str(self._row[3])

    @property
    def time(self) -> int | None:
        """The source's own moment."""
        found: int | None = self._row[6]
        return found

    @property
    def attributes(self) -> Mapping[str, str]:
        """The event's attributes."""
        return _texts(self._row[11])

    @property
    def match(self) -> Mapping[str, str]:
        """The captures of the sensor's pattern."""
        return _texts(self._row[12])

    def data(self) -> Any:
        """Return the content as expressions see it. Raises Unreadable."""
        if self._data is _UNPARSED:
            try:
                self._data = parse_data(self._row[20], self._row[10])
            except ValueError as error:
                raise Unreadable(f"data is not what it is said to be ({error})") from error
        return self._data


def _texts(text: str | None) -> Mapping[str, str]:
    if text is None:
        return EMPTY
    found: Mapping[str, str] = orjson.loads(text)
    return found
