"""What can go wrong between a trigger event and the end of its run, named by what happens next.

PipelineError
├── DefinitionError    the pipeline cannot be used; raised at load
├── ParameterError     a run's parameters do not fit the pipeline's; the run is refused, or fails before it starts
├── TaskFailed         a definitive failure of one attempt: retry if attempts remain and it is `retryable`
├── TaskTimedOut       the attempt exceeded its time and was killed: retry like a failure
├── Ambiguous          nobody knows whether the work started: look up by key before starting again
└── LeaseLost          another process owns the run now: stop, write nothing
"""

from collections.abc import Sequence

from pipelines.run import CheckResult


class PipelineError(Exception):
    """Anything about pipelines; the sentence helps the person who reads the run."""


class DefinitionError(PipelineError):
    """A pipeline's definition is wrong: `path` is where, `hint` what would be right."""

    def __init__(self, message: str, path: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.hint = hint


class ParameterError(PipelineError):
    """A parameter is missing, unknown, of the wrong type, or too large."""


class TaskFailed(PipelineError):
    """One attempt failed for sure. `kind` is a low-cardinality name for metrics and spans.

    What the attempt cost and which checks it met may be told as well, by setting the attributes before raising.
    """

    def __init__(
        self, message: str, kind: str = "error", *, retryable: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable
        self.retry_after = retry_after
        self.detail: str | None = None  # narrows the kind down, in the words of `retry_on`: `exit:75`
        self.checks: Sequence[CheckResult] = ()
        self.cpu_seconds: float | None = None
        self.peak_rss_bytes: int | None = None


class TaskTimedOut(TaskFailed):
    """The attempt took longer than its timeout and was killed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "timeout")


class Ambiguous(PipelineError):
    """The start may or may not have happened (time-out, reset connection, 5xx after sending)."""


class LeaseLost(PipelineError):
    """The lease on the run is gone; whoever holds it now decides."""
