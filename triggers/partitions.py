"""Partitions that go one at a time: a pipeline has them where a rule gives its runs the partition for a lane. Pure."""

from collections.abc import Iterable

from triggers.trigger import Trigger


def partition_is_lane(triggers: Iterable[Trigger], pipeline: str) -> bool:
    """Say whether runs of a pipeline go one at a time within their partition."""
    return any(
        run.pipeline == pipeline and run.lane is not None and run.lane == run.partition
        for trigger in triggers
        for run in (*trigger.runs, *trigger.overdue_runs)
    )
