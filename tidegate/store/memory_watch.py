"""What is watched by the clock, and what checks found, in memory."""

from collections.abc import Mapping, Sequence
from statistics import median

from pipelines.run import RunState
from tidegate.store.memory_state import State
from tidegate.store.watch_port import LAST_RUNS, USUAL, USUAL_OF, DatasetName, Row, RunOf

_FIELDS = ("check", "task", "dataset", "passed", "severity", "message", "at", "expected", "actual", "sample")


class WatchMemory:
    """Methods of `Tx` for what is watched."""

    state: State

    def written_at(self, datasets: Sequence[DatasetName]) -> Mapping[DatasetName, int]:
        found = {name: self.state.datasets[name][1] for name in datasets if name in self.state.datasets}
        return {name: write.at for name, write in found.items() if write.mode != "read"}

    def usual_duration(self, pipeline: str) -> int | None:
        runs = [run for run in self.state.runs.values() if run.pipeline == pipeline][-USUAL_OF:]
        took = [
            run.finished_at - run.started_at
            for run in reversed(runs)
            if run.state == RunState.SUCCEEDED and run.started_at is not None and run.finished_at is not None
        ][:USUAL]
        return int(median(took)) if took else None

    def runs_between(self, pipeline: str, after: int, until: int) -> Sequence[RunOf]:
        runs = [run for run in self.state.runs.values() if run.pipeline == pipeline][-LAST_RUNS:]
        return [
            RunOf(run.uid, str(run.state), run.created_at) for run in reversed(runs) if after < run.created_at <= until
        ]


class ChecksMemory:
    """Methods of `Reader` for what checks found."""

    _state: State

    def run_checks(self, run: str) -> Sequence[Row]:
        return [row for row in self._checks() if row["run"] == run]

    def last_checks(self, datasets: Sequence[str]) -> Mapping[str, Sequence[Row]]:
        found: dict[str, Sequence[Row]] = {}
        for dataset in sorted(set(datasets)):
            latest = {(row["task"], row["check"]): row for row in self._checks() if row["dataset"] == dataset}
            if latest:
                found[dataset] = [latest[name] for name in sorted(latest)]
        return found

    def _checks(self) -> Sequence[Row]:
        return [
            {"run": run, **{name: getattr(check, name) for name in _FIELDS}}
            for _, (run, check) in sorted(self._state.checks.items())
        ]
