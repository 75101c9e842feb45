"""CheckSpec: one check of what a task made, as plain data that travels in a task's options.

A task's option `checks` is a list of `{"kind", "options", "severity"}`. The kinds and their options:

    row_count            min, max (rows), max_drop (share of the last recorded count that may be missing, 0..1)
    between              column, min, max (either may be None; nulls pass, NaN does not)
    not_null             columns
    unique               columns (together; nulls count as a value)
    columns_match_last   none: names and types are those of the last recorded write
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["fail", "warn"]


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One check. With severity `fail` nothing is published when it does not pass; with `warn` it is only recorded."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "fail"
