"""The tasks of the benchmark `dag`: they do nothing, or tell when they were called."""

import time


def noop() -> None:
    """Do nothing."""


def now() -> int:
    """Return the moment of the call in nanoseconds."""
    return time.time_ns()
