"""CheckSpec: one check of what a task made or a dataset holds, as plain data that travels in a task's options.

In a task's options a check is `{"kind", "options"}` with `severity`, `name` and `redact` where they are not the usual
ones; in YAML people write `- row_count: {min: 1}`, which becomes the same (`pipelines.checks.written`). The kinds and
their options are those of `pipelines.checks.registry`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["fail", "warn"]


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One check. With severity `fail` nothing is published when it does not pass; with `warn` it is only recorded.

    `name` is what people call it (empty: its kind and column). `redact` keeps values out of messages and samples: True
    all of them, a sequence those of the named columns.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "fail"
    name: str = ""
    redact: bool | Sequence[str] = False

    @property
    def label(self) -> str:
        """Return what results are recorded under: the name, or the kind with the columns that it looks at."""
        if self.name:
            return self.name
        columns = self.options.get("column") or self.options.get("columns")
        if isinstance(columns, str):
            return f"{self.kind}({columns})"
        if isinstance(columns, Sequence) and columns:
            return f"{self.kind}({', '.join(map(str, columns))})"
        return self.kind


def as_plain(spec: CheckSpec) -> dict[str, Any]:
    """Return the check as it stands in a task's options; what is as usual is left out."""
    plain: dict[str, Any] = {"kind": spec.kind, "options": dict(spec.options), "severity": spec.severity}
    if spec.name:
        plain["name"] = spec.name
    if spec.redact:
        plain["redact"] = spec.redact if spec.redact is True else list(spec.redact)
    return plain


def from_plain(plain: Mapping[str, Any]) -> CheckSpec:
    """Read a check from a task's options."""
    return CheckSpec(
        plain["kind"],
        plain.get("options") or {},
        plain.get("severity", "fail"),
        plain.get("name", ""),
        plain.get("redact", False),
    )


def labels(specs: Sequence[CheckSpec]) -> Sequence[str]:
    """Return a label for each check, all different: what comes again gets a number."""
    seen: dict[str, int] = {}
    found = []
    for spec in specs:
        label = spec.label[:200]
        seen[label] = seen.get(label, 0) + 1
        found.append(label if seen[label] == 1 else f"{label}#{seen[label]}")
    return found
