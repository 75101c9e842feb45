"""By when a run must be done: a time of day on some days of the week, on the clock of a place. Pure.

In a definition it is one text: `07:00`, or `07:00 Europe/Oslo mon-fri`, with `expect:daily` when a run must have come
although no schedule of ours starts one. In flow such texts and moments, out flow moments (UTC microseconds). A time
that the clock skips comes at the first moment after the jump, one that comes twice counts the first time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

from sensors.adapters.schedule_times import Cron, before, zone_of

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TIME: Final = r"([01]\d|2[0-3]):[0-5]\d"
Expect = Literal["scheduled", "daily", "never"]
_DAYS: Final = re.compile(rf"(?:{'|'.join(DAYS)})(?:[,-](?:{'|'.join(DAYS)}))*")


@dataclass(frozen=True)
class FinishBy:
    """A time of day. `days` are numbers from Monday (0); `expect` says when a run is missed that never came.

    `scheduled`: when a schedule that starts the pipeline has ticked since the deadline before; `daily`: on each of the
    days; `never`: only runs that there are can be late.
    """

    time: str
    timezone: str = "UTC"
    days: tuple[int, ...] = tuple(range(7))
    expect: Expect = "scheduled"

    @cached_property
    def _times(self) -> Cron:
        hour, minute = self.time.split(":")
        week = "*" if len(self.days) == 7 else ",".join(str((day + 1) % 7) for day in self.days)
        return Cron(f"{int(minute)} {int(hour)} * * {week}", zone_of(self.timezone))

    def after(self, moment: int) -> int:
        """Return the first deadline after a moment."""
        found = self._times.after(moment)
        assert found is not None  # noqa: S101 - some day of the week always comes
        return found

    def before(self, moment: int) -> int:
        """Return the last deadline before a moment."""
        found = before(self._times, moment)
        assert found is not None  # noqa: S101 - some day of the week was always there
        return found

    def __str__(self) -> str:
        words = [self.time]
        if self.timezone != "UTC":
            words.append(self.timezone)
        if len(self.days) < 7:
            words.append(",".join(DAYS[day] for day in self.days))
        if self.expect != "scheduled":
            words.append(f"expect:{self.expect}")
        return " ".join(words)


def parse_finish_by(text: str) -> FinishBy:
    """Read a text such as `07:00 Europe/Oslo mon-fri`. Raises ValueError with a sentence."""
    words = text.split()
    if not words or re.fullmatch(TIME, words[0]) is None:
        raise ValueError(f"{text!r} is no time of day; write one such as 07:00, or 07:00 Europe/Oslo mon-fri")
    fields: dict[str, object] = {"time": words[0]}
    for word in words[1:]:
        name, value = _word(word, text)
        if name in fields:
            raise ValueError(f"{text!r} says twice when; write one such as 07:00 Europe/Oslo mon-fri")
        fields[name] = value
    return FinishBy(**fields)  # type: ignore[arg-type]


def _word(word: str, text: str) -> tuple[str, object]:
    if word.startswith("expect:"):
        wanted = word.removeprefix("expect:")
        if wanted not in get_args(Expect):
            raise ValueError(f"{text!r}: expect is {', '.join(get_args(Expect))}, not {wanted!r}")
        return "expect", wanted
    if _DAYS.fullmatch(word.lower()):
        return "days", days_of([word])
    zone_of(word)
    return "timezone", word


def days_of(words: Sequence[str]) -> tuple[int, ...]:
    """Read days of the week: `mon`, `mon-fri`, `sat,sun`. Raises ValueError."""
    found: set[int] = set()
    for part in ",".join(words).lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{part!r} is no day of the week; write mon, mon-fri or sat,sun")
        start = DAYS.index(first)
        end = DAYS.index(last) if dash else start
        found.update((start + n) % 7 for n in range((end - start) % 7 + 1))
    return tuple(sorted(found))
