"""What checks found, as OpenLineage says it: the facet `dataQualityAssertions` of a dataset. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.run import CheckResult
from tidegate.lineage.openlineage import PRODUCER

SCHEMA = (
    "https://openlineage.io/spec/facets/1-1-0/DataQualityAssertionsDatasetFacet.json"
    "#/$defs/DataQualityAssertionsDatasetFacet"
)
_SEVERITY = {"fail": "error", "warn": "warn"}


def assertions_facet(checks: Iterable[CheckResult]) -> Mapping[str, Any]:
    """Return the facet of one dataset for the results of its checks, in order; empty without any.

    A check is named as its result is recorded; where it looks at one column, as in `between(amount)`, the facet names
    the column as well.
    """
    assertions = [_assertion(check) for check in checks]
    if not assertions:
        return {}
    return {"dataQualityAssertions": {"_producer": PRODUCER, "_schemaURL": SCHEMA, "assertions": assertions}}


def _assertion(check: CheckResult) -> Mapping[str, Any]:
    told: dict[str, Any] = {
        "assertion": check.check,
        "success": check.passed,
        "severity": _SEVERITY[check.severity],
    }
    kind, found, column = check.check.partition("(")
    if found and kind.isidentifier() and column.endswith(")") and "," not in column:
        told["column"] = column[:-1]
    return told


def by_dataset(checks: Iterable[CheckResult]) -> Mapping[str, Mapping[str, Any]]:
    """Return the facets of all datasets that checks of a run are about, by the name that results bear."""
    together: dict[str, list[CheckResult]] = {}
    for check in checks:
        together.setdefault(check.dataset, []).append(check)
    return {dataset: assertions_facet(results) for dataset, results in together.items()}
