"""Names of datasets that others write: a URI that we know becomes its OpenLineage name, anything else keeps its own."""

from collections.abc import Callable
from pathlib import Path

from pipelines.datasets.target import parse_target


def namer(base: Path, namespace: str) -> Callable[[str], tuple[str, str]]:
    """Return what gives (namespace, name) of a dataset as configured; `namespace` is for names that are no URI."""

    def name(dataset: str) -> tuple[str, str]:
        try:
            target = parse_target(dataset, base)
        except ValueError:
            return namespace, dataset
        return target.namespace, target.name

    return name
