"""From findings to what is recorded of them: plain values, bounded, fit for JSON and for text columns."""

from collections.abc import Sequence
from typing import Any

import orjson

from pipelines.checks.finding import Finding

MAX_SAMPLE = 4_000  # bytes of JSON


def told(findings: Sequence[Finding], dataset: str) -> list[dict[str, Any]]:
    """Return findings about a dataset as a worker answers them (the fields of `pipelines.run.CheckResult`)."""
    return [
        {
            "check": finding.label,
            "dataset": dataset,
            "passed": finding.passed,
            "severity": finding.spec.severity,
            "message": storable(finding.message),
            "expected": storable(finding.verdict.expected) or None,
            "actual": storable(finding.verdict.actual) or None,
            "sample": sample_json(finding),
        }
        for finding in findings
    ]


def sample_json(finding: Finding) -> str | None:
    """Return the offending rows as JSON text, fewer of them where they would be too much; None for none."""
    rows = [
        {storable(str(name)): storable(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in finding.verdict.sample
    ]
    while rows:
        text = orjson.dumps(rows, default=str)
        if len(text) <= MAX_SAMPLE:
            return text.decode()
        rows.pop()
    return None


def failures(findings: Sequence[Finding]) -> str:
    """Return why nothing may be published, empty when it may: what the failed checks of severity `fail` say."""
    failed = [finding for finding in findings if not finding.passed and finding.spec.severity == "fail"]
    return "; ".join(
        f"{finding.spec.name}: {finding.message}" if finding.spec.name else finding.message for finding in failed
    )


def storable(text: str) -> str:
    """Return text without what JSON and text columns do not take."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
