"""What writers of datasets are told, remember and answer: plain values and two control errors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Schema = tuple[tuple[str, str], ...]


class StaleWrite(Exception):
    """A newer holder or attempt of the same run has written already: this one must not."""


class TargetBusy(Exception):
    """The target is in use by another process and did not become free in time; try again later."""


class TargetUnusable(Exception):
    """The target cannot be written as it is; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who writes: run, fencing token, task, partition, attempt; `at` in UTC microseconds."""

    run: str
    fence: int
    task: str
    partition: str
    attempt: int
    at: int

    def refuse_stale(self, dataset: str, fence: int, attempt: int) -> None:
        """Raise StaleWrite when a recorded write of this run, with that fence and attempt, outranks this one.

        `attempt` is 0 for a record of another task of the run: there only the token counts.
        """
        if (fence, attempt) > (self.fence, self.attempt):
            raise StaleWrite(
                f"attempt {attempt} under fencing token {fence} has written {dataset} already; "
                f"attempt {self.attempt} under token {self.fence} is no longer the run's"
            )


@dataclass(frozen=True, slots=True)
class Last:
    """The last recorded write by another run: its row count and its columns.

    `counts` are the row counts of the last writes by other runs, the newest first; empty where only the last is known.
    """

    rows: int
    schema: Schema
    counts: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Written:
    """What lies in the target now: rows written, bytes on disk (None when not known), columns, version."""

    rows: int
    bytes: int | None
    schema: Schema
    version: str


COUNTS = 20  # earlier writes whose row counts a check may ask for

Judge = Callable[[Last | None], None]
"""Called with the last write before anything is published; what it raises ends the write with nothing published."""


def schema_of(frame: Any) -> Schema:
    """Return names and types of a Polars DataFrame's columns."""
    return tuple((name, str(dtype)) for name, dtype in frame.schema.items())
