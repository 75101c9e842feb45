"""`Context`: what a task function may know of the attempt that it is, and how it speaks to the run's log.

It comes to the function as the parameter that is annotated with `Context`, or named `context`. Everything but
`cancelled`, `remaining()` and `scratch` is fixed for the attempt. The same values come whatever the place: a warm
worker, a Dask worker, the service's loop, or a unit test.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def _drop(_text: str) -> None:
    """Keep no log."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One attempt of one task.

    `run` is the run's uid, `key` its idempotency key. `partition` is the task run's own, else the run's, else empty.
    `params` are the run's parameters, `event_uids` its causing events. `headers` carry the W3C trace context, `environ`
    the same as variables. `deadline` is when the attempt is killed (UTC; None: never). `base` is the folder from which
    relative paths of the configuration start.
    """

    run: str
    task: str
    attempt: int = 1
    pipeline: str = ""
    key: str = ""
    trigger: str | None = None
    partition: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    event_uids: Sequence[str] = ()
    given_events: Sequence[Any] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline: datetime | None = None
    base: Path = Path()
    log: Callable[[str], None] = _drop
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    asked_to_stop: Callable[[], bool] = _never
    folder: Path = Path("scratch")

    @property
    def events(self) -> Sequence[Any]:
        """Return the causing events as expressions see them, in order, at most 5,000.

        They are there when the function itself says `.events`, or its task says `events=True`; RuntimeError otherwise.
        """
        if self.given_events is None and self.event_uids:
            raise RuntimeError(
                f"the events of run {self.run} were not asked for; decorate the function with @task(events=True), or "
                'write `events: "${{ events }}"` beside `function:`'
            )
        return self.given_events or ()

    @property
    def cancelled(self) -> bool:
        """Say whether somebody asked this attempt to stop.

        A function that has looked at this once gets some seconds to end by itself when its run is cancelled; one that
        never looks is killed at once. A timeout kills in either case.
        """
        return self.asked_to_stop()

    @property
    def scratch(self) -> Path:
        """Return a folder of this attempt alone, made when it is first asked for, removed when the attempt ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def remaining(self) -> float:
        """Return the seconds until the attempt's deadline; infinite when it has none, never negative."""
        if self.deadline is None:
            return float("inf")
        return max(0.0, (self.deadline - self.now()).total_seconds())
