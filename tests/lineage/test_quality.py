"""Results of checks as OpenLineage tells them."""

from pipelines.run import CheckResult
from tidegate.lineage.quality import assertions_facet, by_dataset


def check(name: str, *, passed: bool = True, severity: str = "fail", dataset: str = "daily") -> CheckResult:
    return CheckResult(check=name, task="t", dataset=dataset, passed=passed, severity=severity, message="m", at=1)


def test_the_facet_has_the_shape_of_the_specification() -> None:
    """Name, outcome, severity, and the column where a check looks at one; producer and schema beside them."""
    checks = [
        check("row_count"),
        check("between(amount)", passed=False),
        check("unique(a, b)", passed=False, severity="warn"),
        check("amounts (all) are good"),
    ]
    facet = assertions_facet(checks)["dataQualityAssertions"]

    assert facet["assertions"] == [
        {"assertion": "row_count", "success": True, "severity": "error"},
        {"assertion": "between(amount)", "success": False, "severity": "error", "column": "amount"},
        {"assertion": "unique(a, b)", "success": False, "severity": "warn"},
        {"assertion": "amounts (all) are good", "success": True, "severity": "error"},
    ]
    assert facet["_schemaURL"] == (
        "https://openlineage.io/spec/facets/1-1-0/DataQualityAssertionsDatasetFacet.json"
        "#/$defs/DataQualityAssertionsDatasetFacet"
    )
    assert facet["_producer"].startswith("https://")


def test_each_dataset_has_its_own_facet() -> None:
    """Checks of one run on several datasets are told apart; without checks there is no facet."""
    found = by_dataset([check("a", dataset="x"), check("b", dataset="y"), check("c", dataset="x")])

    assert {
        name: [one["assertion"] for one in facet["dataQualityAssertions"]["assertions"]]
        for name, facet in found.items()
    } == {
        "x": ["a", "c"],
        "y": ["b"],
    }
    assert assertions_facet([]) == {}
