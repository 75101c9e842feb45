"""The rule by which the ends of what a task needs decide about it. Pure.

In flow counts of the needs by how they ended; out flows whether the task starts, never will, or has to wait. A need
that was left out on purpose (`when` was false, or it was skipped for that reason itself) counts as no success, but
what cannot start because of such needs alone is skipped as well, visibly, and not failed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pipelines.run import TaskRun, TaskState

RULES = ("all_success", "all_done", "any_success", "N_of")
LEFT_OUT = ("when", "skipped")  # error kinds of task runs that were skipped on purpose
_AT_LEAST = re.compile(r"([1-9]\d{0,3})_of\Z")


class Met(Enum):
    """What the needs say."""

    WAIT = "wait"
    START = "start"
    SKIP = "skip"
    NEVER = "never"


@dataclass(slots=True)
class Needs:
    """How many needs there are, how many ended, succeeded, were left out on purpose. Counted as they end."""

    total: int
    final: int = 0
    succeeded: int = 0
    left_out: int = 0

    def count(self, task_run: TaskRun) -> None:
        """Count a need that ended."""
        self.final += 1
        if task_run.state is TaskState.SUCCEEDED:
            self.succeeded += 1
        elif is_left_out(task_run):
            self.left_out += 1

    def met(self, upstream: str) -> Met:
        """Say what the needs so far mean under a rule."""
        if upstream == "all_done" or not self.total:
            return Met.START if self.final == self.total else Met.WAIT
        wanted = wanted_of(upstream, self.total)
        if self.succeeded >= wanted:
            return Met.START
        if self.succeeded + self.total - self.final >= wanted:
            return Met.WAIT
        if self.succeeded + self.left_out < self.final:
            return Met.NEVER
        return Met.SKIP if self.final == self.total else Met.WAIT  # a failure to come would outweigh the skips


def wanted_of(upstream: str, total: int) -> int:
    """Return how many needs must succeed."""
    if upstream == "any_success":
        return 1
    return at_least(upstream) or total


def at_least(upstream: str) -> int | None:
    """Return N of `N_of`; None for other rules."""
    found = _AT_LEAST.match(upstream)
    return int(found[1]) if found else None


def is_left_out(task_run: TaskRun) -> bool:
    """Say whether a task was skipped on purpose: neither a failure nor the consequence of one."""
    return task_run.state is TaskState.SKIPPED and task_run.error_kind in LEFT_OUT


def blame(needs: Sequence[str], tasks: Mapping[str, TaskRun], *, skipped: bool) -> str:
    """Return the sentence of a task that does not start because of its needs."""
    if skipped:
        names = [need for need in needs if is_left_out(tasks[need])]
        return f"skipped: {', '.join(f'{name} was skipped' for name in names)}"
    failed = [f"{n} ({tasks[n].state})" for n in needs if tasks[n].state is not TaskState.SUCCEEDED]
    return f"not started: what it needs did not succeed: {', '.join(failed)}"
