"""Dead letters of events that were stored: which events they name, so that a replay can judge them again.

A letter of a payload that never became an event names none: that one goes through its sensor again
(`tidegate.retrying`), not through a replay.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tidegate.store.reader import Reader
from tidegate.store.replay_records import ReplaySpec

UNJUDGED: Final = "unjudgeable"  # the reason of a letter whose event no rule could judge


class NoEvent(LookupError):
    """A dead letter names no event that could be judged; the sentence says why, and what to do instead."""


def named_by(reader: Reader, spec: ReplaySpec, letters: Sequence[str]) -> ReplaySpec:
    """Return what replays the events of dead letters. Raises NoEvent."""
    events = []
    wanted = list(dict.fromkeys(letters))
    for uid in wanted:
        row = reader.dead_letter(uid)
        if row is None:
            raise NoEvent(f"there is no dead letter {uid}")
        if row["event_uid"] is None or row["reason"] != UNJUDGED:
            raise NoEvent(f"dead letter {uid} is no event that could be judged; `dead-letters retry` takes it in again")
        events.append(row["event_uid"])
    return replace(spec, events=tuple(events), letters=tuple(wanted))
