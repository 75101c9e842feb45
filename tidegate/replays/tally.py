"""What a replay comes to: exact counts by outcome, and a bounded few samples of each, with the reason.

The words: `looked` causes were looked at; `started` runs were started (would be, in a dry run); the others say why
there was no run: `filtered`, `error`, `paused`, `pattern`, `unmatched` (see `triggers.again`), `other_partition`,
`gone` (the event is past its retention), `not_fired` (as it was, it fired nothing), `forgotten` (it fired, but what it
was started with is past its retention), `dealt_with` (the dead letter that named it is not waiting any more).
"""

from collections.abc import Mapping, Sequence
from typing import Any

SAMPLES = 5  # of each outcome
_TEXT = 400


class Tally:
    """Counts on from where a replay stands."""

    def __init__(self, counts: Mapping[str, int], samples: Sequence[Mapping[str, Any]]) -> None:
        self.counts = dict(counts)
        self.samples = [dict(sample) for sample in samples]
        self._kept: dict[str, int] = {}
        for sample in self.samples:
            self._kept[sample["outcome"]] = self._kept.get(sample["outcome"], 0) + 1

    def add(self, outcome: str, cause: str, reason: str, **more: Any) -> None:
        """Count one, and keep it as a sample while there are few of its kind."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if self._kept.get(outcome, 0) < SAMPLES:
            self._kept[outcome] = self._kept.get(outcome, 0) + 1
            told = {name: value for name, value in more.items() if value not in (None, "")}
            self.samples.append({"outcome": outcome, "cause": cause, "reason": reason[:_TEXT], **told})

    def look(self) -> None:
        """Count a cause that is looked at."""
        self.counts["looked"] = self.counts.get("looked", 0) + 1
