"""The sieve: which records of a stream any filter lets through, asked before an event is made of them.

In flow records as `sensors.ports.Record` describes them, out flows yes or no. It is the index that judges events, over
the same fields, so that a record that does not pass is one of which every trigger would have said `filtered`: it is
counted as a candidate of its type in the configuration that judged it, as the evaluator counts events, and not stored.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

from triggers.group import Candidates, SensorRules
from triggers.quick import NOTHING, Quick
from triggers.template import moment_text
from triggers.view import EventView

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Record(Protocol):
    """What is asked of a record; see `sensors.ports.Record`."""

    @property
    def type(self) -> str:
        """The event's type."""
        ...

    @property
    def subject(self) -> str | None:
        """The event's subject."""
        ...

    @property
    def time(self) -> int | None:
        """The source's own moment, UTC microseconds."""
        ...

    def data(self) -> Any:
        """Return the content as expressions see it."""
        ...


class _View:
    """A record as filters see an event: the record stands for its envelope. Made once for a batch."""

    __slots__ = ("data", "event")

    def __init__(self) -> None:
        self.event: Any = None
        self.data: Any = None

    @property
    def type(self) -> str:
        return cast("str", self.event.type)

    @property
    def subject(self) -> str | None:
        return cast("str | None", self.event.subject)

    def time_text(self) -> str | None:
        """Return the source's moment as RFC 3339 text."""
        at = self.event.time
        try:
            return None if at is None else moment_text(_EPOCH + timedelta(microseconds=at))
        except OverflowError:  # beyond the years 1 to 9999
            return None


class Sieve:
    """Implements `sensors.ports.Sieve` for one batch of one sensor."""

    __slots__ = ("_candidates", "_config_hash", "_group", "_record", "_type", "_unwanted", "_view")

    def __init__(self, group: SensorRules | None, config_hash: str) -> None:
        self._group = group
        self._config_hash = config_hash
        self._unwanted: dict[str, int] = {}
        self._view = _View()
        self._record: Record | None = None
        self._type: str | None = None
        self._candidates: Candidates | None = None

    def wants(self, record: Record) -> bool:
        """Return False only when the filter of no trigger matches. Raises Unreadable as the record's `data` does."""
        if self._group is None:
            return False
        view = self._view
        if record is not self._record:  # a sensor shows its records through one object
            self._record = view.event = record
            view.data = record.data
        if record.type != self._type:
            self._type = record.type
            self._candidates = self._group.candidates(record.type)
        candidates = cast("Candidates", self._candidates)
        return bool(candidates.size) and candidates.matches(cast("EventView", view))

    def quick(self, type: str) -> Quick | None:
        """Return a look at content that says False only for a record that is not wanted; None where there is none."""
        return NOTHING if self._group is None else self._group.candidates(type).quick

    def refuse(self, type: str, n: int = 1) -> None:
        """Count records that are not wanted, as the evaluator counts events of which no filter lets one through."""
        if self._group is not None and n:
            candidates = self._group.candidates(type)
            if candidates.size:
                self._unwanted[candidates.name] = self._unwanted.get(candidates.name, 0) + n

    def unwanted(self) -> Mapping[tuple[str, str], int]:
        """Return how many candidates were refused, by (counter, configuration)."""
        return {(name, self._config_hash): n for name, n in self._unwanted.items()}
