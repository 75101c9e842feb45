"""Names of datasets that others write: one that is configured, or a URI, becomes its OpenLineage name."""

from collections.abc import Callable

from pipelines.datasets.catalog import Catalog


def namer(catalog: Catalog, namespace: str) -> Callable[[str], tuple[str, str]]:
    """Return what gives (namespace, name) of a dataset as it is referred to.

    What is neither configured nor a URI that can be written keeps its own name; `namespace` is where it lives.
    """

    def name(dataset: str) -> tuple[str, str]:
        try:
            target = catalog.bind(dataset).target
        except ValueError:
            return namespace, dataset
        return target.namespace, target.name

    return name
