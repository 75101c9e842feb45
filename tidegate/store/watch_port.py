"""The parts of the store that tell what is watched by the clock: how fresh datasets are, how long runs usually take.

`WatchTx` is asked within transactions, by handlers of timers; `WatchReader` by the API. All of it is bounded: a look at
the last runs of a pipeline never reads all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Row = dict[str, Any]
DatasetName = tuple[str, str]  # OpenLineage namespace and name
LAST_RUNS = 1_000  # of a pipeline, among which runs of a time are looked for
USUAL = 20  # successes whose median is what a run usually takes, of so many runs:
USUAL_OF = 200


class RunOf(NamedTuple):
    """A run of some time: what it is and how it stands."""

    uid: str
    state: str
    created_at: int


class WatchTx(Protocol):
    """What `Tx` can tell about what is watched."""

    def written_at(self, datasets: Sequence[DatasetName]) -> Mapping[DatasetName, int]:
        """Return when each dataset was last written; those that were not are left out."""
        ...

    def usual_duration(self, pipeline: str) -> int | None:
        """Return how long the last successes of a pipeline took from start to end (the median, µs); None: no idea."""
        ...

    def runs_between(self, pipeline: str, after: int, until: int) -> Sequence[RunOf]:
        """Return the runs made in (after, until], the newest first, as far as they are among the last ones."""
        ...


class WatchReader(Protocol):
    """What `Reader` can tell about checks."""

    def run_checks(self, run: str) -> Sequence[Row]:
        """Return the results of all checks of a run in order: check, task, dataset, passed, severity, message, …"""
        ...

    def last_checks(self, datasets: Sequence[str]) -> Mapping[str, Sequence[Row]]:
        """Return the latest result of each check of each dataset, by the name that results bear, with its run."""
        ...
