"""What a check is told beside the data, and what it answers: plain values, and the one control error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.checks.spec import CheckSpec
from pipelines.datasets.written import Last

SHOWN = 3  # offending values in a message
SAMPLE = 5  # offending rows that are kept


class Unfit(Exception):
    """The check cannot be evaluated on this data; it has not passed, and the sentence says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found. `expected` and `actual` are words, `sample` a few offending rows."""

    passed: bool
    message: str
    expected: str = ""
    actual: str = ""
    sample: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one check, with the check and the label that it is recorded under."""

    spec: CheckSpec
    label: str
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Say whether the check passed."""
        return self.verdict.passed

    @property
    def message(self) -> str:
        """Return the sentence for people."""
        return self.verdict.message


def _unresolved(reference: str) -> Any:
    raise Unfit(f"{reference!r} cannot be looked up here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What is around the data: `last` is the last recorded write by another run (None: there was none).

    `remembers` says whether writes are recorded at all. `now` is UTC microseconds. `resolve` finds a function by
    `module:name`, `base` is where relative paths start, `connections` are those that checks name.
    """

    now: int
    last: Last | None = None
    remembers: bool = True
    resolve: Callable[[str], Any] = _unresolved
    base: Path = Path()
    connections: Mapping[str, Any] = field(default_factory=dict)
