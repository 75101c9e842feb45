"""What the evaluation of a group of events needs to know about the past, and what it asks the store to remember.

`admit` is pure; the ingest transaction locks the rows named by the plan, hands their state in, and writes what comes
out.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class RunKeyName:
    """Names one idempotency key: `scope` is `trigger/NAME` or `pipeline/NAME`."""

    scope: str
    pipeline: str
    key: str


@dataclass(frozen=True, slots=True)
class RunKeyState:
    """The locked row of one key. `generation` 0: never started. `last_state` is the state of the last run's row."""

    name: RunKeyName
    generation: int = 0
    last_run: str | None = None
    last_state: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class LaneName:
    """Names one lane of a pipeline; `lane` is empty for the pipeline as a whole."""

    pipeline: str
    lane: str


@dataclass(frozen=True, slots=True)
class LaneState:
    """The locked row of one lane: uids of runs under way and of runs waiting, in arrival order."""

    name: LaneName
    active: tuple[str, ...] = ()
    queued: tuple[str, ...] = ()
