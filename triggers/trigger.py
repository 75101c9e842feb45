"""The Trigger: a named rule, as plain frozen data. `triggers.evaluator` compiles it; nothing here does anything.

Expression fields hold CEL text; template fields hold text with `${{ … }}` in it, or nested lists and maps of such text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from triggers.control import Control
from triggers.pattern import Pattern, Source

__all__ = ["Paused", "Repeat", "RunRule", "Source", "Trigger", "WhenBusy"]


class Repeat(StrEnum):
    """What to do when a run key was used before."""

    RETRY_FAILED = "retry_failed"  # a new run only if the last one with that key failed or was cancelled
    SKIP = "skip"  # never a second one
    ALWAYS = "always"  # one run per trigger event


class WhenBusy(StrEnum):
    """What to do when the lane is occupied or the pipeline's concurrency is reached."""

    QUEUE = "queue"  # wait in line
    COALESCE = "coalesce"  # merge into the one run that is pending
    SKIP = "skip"  # no run; the decision says so
    CANCEL_RUNNING = "cancel_running"  # cancel what runs, then start


class Paused(StrEnum):
    """What happens to events of a paused trigger."""

    HOLD = "hold"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRule:
    """One run that a trigger starts. `key`, `lane`, `partition` are CEL (None: absent); `params` are templates."""

    pipeline: str
    params: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    partition: str | None = None
    lane: str | None = None
    key_scope: str = "trigger"  # or "pipeline": shared by all triggers of that pipeline
    priority: int = 0  # 1 to 9: goes before runs that came a little earlier, though never before those of its lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A named rule: events of `on` for which `when` holds start `runs`, once per element of `each` if given.

    With a `pattern`, `on` are the sources of its parts, in order; `runs` start when it is fulfilled, `overdue_runs`
    when a join is overdue. `control` is what single events have to pass; with a batch or debounce in it the runs get
    several events.
    """

    name: str
    on: Sequence[Source]
    runs: Sequence[RunRule]
    when: str | None = None
    each: str | None = None
    repeat: Repeat = Repeat.RETRY_FAILED
    when_busy: WhenBusy = WhenBusy.QUEUE
    missing_field_is_error: bool = True
    enabled: bool = True
    paused: Paused | None = None
    pattern: Pattern | None = None
    overdue_runs: Sequence[RunRule] = ()
    control: Control | None = None
    version: str = ""  # hash of the rule's text: decisions name the version that made them
    refers: bool = False  # beside `params` it refers to the environment or to files: it is not written down
