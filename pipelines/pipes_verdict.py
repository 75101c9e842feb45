"""The end of a program that spoke Pipes: its exit and its reports become one TaskResult, or one TaskFailed. Pure.

The exit comes first: a killed program never closes its context. A program that ended well fails all the same when it
told of an exception, or when a check of severity `fail` did not pass; what it reported of datasets then stands in the
log alone, for a dataset of a failed attempt is nobody's.
"""

from dataclasses import replace

from pipelines.errors import TaskFailed
from pipelines.pipes import PipesInbox
from pipelines.ports import TaskContext, TaskResult
from pipelines.reported import Naming, exception_words


def with_reports(
    end: TaskResult | TaskFailed, inbox: PipesInbox, context: TaskContext, at: int, name: Naming
) -> TaskResult:
    """Return the result with what the program reported; raises TaskFailed, with its checks."""
    reported, task = inbox.reported, context.task_run.task
    checks = (*end.checks, *reported.checks(task, at, name))
    if isinstance(end, TaskFailed):
        end.checks = checks
        if inbox.exception is not None:
            end.args = (f"{exception_words(inbox.exception)}; {end}",)
        raise end
    failure = inbox.verdict()
    if failure is not None:
        failure.checks = checks
        failure.cpu_seconds, failure.peak_rss_bytes = end.cpu_seconds, end.peak_rss_bytes
        raise failure
    inbox.tell_of_silence()
    datasets = (*end.datasets, *reported.datasets(task, at, name))
    output = reported.output() if end.output is None else end.output
    return replace(end, output=output, datasets=datasets, checks=checks)
