"""`busy: partition`: a partition is a lane, so that its runs go one at a time and `when_busy` is about it. Pure.

In flow triggers as configured; out flow triggers whose runs have the partition for a lane. Where one trigger says so of
a pipeline, runs of the same pipeline that others start in a partition, and no lane, go the same way: a partition that
is running is running, whoever started it.
"""

from collections.abc import Mapping
from dataclasses import replace

from triggers.trigger import RunRule, Trigger


def partitions_as_lanes(triggers: Mapping[str, Trigger], saying: frozenset[str]) -> dict[str, Trigger]:
    """Return the triggers as they work; `saying` are the names of those that say `busy: partition`."""
    serial = {
        run.pipeline
        for name in saying
        if name in triggers
        for run in (*triggers[name].runs, *triggers[name].overdue_runs)
        if run.partition is not None
    }
    if not serial:
        return dict(triggers)
    return {
        name: replace(
            trigger,
            runs=tuple(_in_lane(run) if run.pipeline in serial else run for run in trigger.runs),
            overdue_runs=tuple(_in_lane(run) if run.pipeline in serial else run for run in trigger.overdue_runs),
        )
        for name, trigger in triggers.items()
    }


def _in_lane(run: RunRule) -> RunRule:
    return replace(run, lane=run.partition) if run.lane is None and run.partition is not None else run
