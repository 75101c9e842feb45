"""Which sets are overdue, told once each, and when none is any more.

In flow what waits since when; out flow notices. What was told is kept in memory only: after a start the same is told
again, and who keeps notices knows it already by its name and the moment since when it waits.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sensors.batch import Notice
from sensors.clock import SECOND

_IN_TIME: Final = "no set of files is overdue any more"


class Overdue:
    """Keeps watch over what waits longer than `within` seconds. Waits are (key, since in UTC micros)."""

    def __init__(self, within: float) -> None:
        self._within = round(within * SECOND)
        self._told: Mapping[str, int] = {}
        self._late = False  # something is, or was when the sensor was connected

    def take_up(self, waits: Iterable[tuple[str, int]], now: int) -> None:
        """Begin anew with what waits already."""
        self._told = {}
        self._late = bool(self.late(waits, now))

    def late(self, waits: Iterable[tuple[str, int]], now: int) -> dict[str, int]:
        """Return what is overdue: key -> since."""
        return {key: since for key, since in waits if since <= now - self._within}

    def notices(self, waits: Iterable[tuple[str, int]], now: int, sentence: Callable[[str], str]) -> list[Notice]:
        """Return what is news; `sentence` says of a key what it lacks."""
        late = self.late(waits, now)
        news = [
            Notice("set_overdue", key, sentence(key), since)
            for key, since in late.items()
            if self._told.get(key) != since
        ]
        if self._late and not late:
            news.append(Notice("sets_in_time", "", _IN_TIME, now))
        self._told, self._late = late, bool(late)
        return news

    def next(self, waits: Iterable[tuple[str, int]]) -> int | None:
        """Return when the next wait becomes overdue, in UTC micros; None when none will."""
        return min((since + self._within for key, since in waits if self._told.get(key) != since), default=None)
