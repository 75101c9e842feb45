"""What a task means by a dataset: a configured name, or a URI of its own. The one place that knows both.

In flows a reference, out flows a Bound: the target, the connection with its secrets filled in (never part of a name or
of a stored definition), and how it is written. A reload replaces what is configured; attempts that start afterwards see
the new entries.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines.datasets.definition import DatasetDef
from pipelines.datasets.target import Target, parse_target
from pipelines.datasets.written import How
from pipelines.graph import nearest


def is_uri(reference: str) -> bool:
    """Say whether a reference is a URI, or to be filled in to become anything."""
    return "://" in reference or "${{" in reference


@dataclass(frozen=True, slots=True)
class Bound:
    """One dataset as a task means it. `connection` holds secrets and stays out of the repr."""

    target: Target
    uri: str
    definition: DatasetDef | None = None
    connection: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Return the configured name, empty for a URI."""
        return "" if self.definition is None else self.definition.name

    def how(self, mode: str | None = None, key: tuple[str, ...] = ()) -> How:
        """Return how it is written: as its entry says, but for what the task says itself.

        A URI without an entry is replaced as a whole, whatever columns come; added to, its columns may grow.
        """
        known = self.definition
        if known is None:
            own = mode or "replace"
            return How.of({"mode": own, "key": key, "schema": "free" if own == "replace" else "evolve"})
        return How.of(
            {
                "mode": mode or known.mode,
                "key": key or known.key,
                "partition_by": known.partition_by,
                "schema": known.schema,
                "deleted_at": known.deleted_at,
            }
        )

    def plain(self) -> dict[str, Any]:
        """Return what a worker needs to open it, as JSON values."""
        return {"uri": self.uri, "connection": self.connection, "dataset": self.name}


class Catalog:
    """The configured datasets and connections. `base` is where relative paths start."""

    def __init__(
        self,
        base: Path,
        datasets: Mapping[str, DatasetDef] | None = None,
        connections: Mapping[str, Any] | None = None,
    ) -> None:
        self._base = base
        self._datasets = dict(datasets or {})
        self._connections = dict(connections or {})

    def update(self, datasets: Mapping[str, DatasetDef], connections: Mapping[str, Any]) -> None:
        """Put other entries in their place."""
        self._datasets, self._connections = dict(datasets), dict(connections)

    def bind(self, reference: str) -> Bound:
        """Return the dataset that a reference means. ValueError says what is wrong with it."""
        known = self._datasets.get(reference)
        if known is None and not is_uri(reference):
            hint = nearest(reference, sorted(self._datasets))
            raise ValueError(f"there is no dataset {reference!r} in `datasets`; {hint} (or write a URI)")
        uri = reference if known is None else known.uri
        target = parse_target(uri, self._base)
        name = None if known is None else known.connection
        connection = None if name is None else self._connections.get(name)
        if name is not None and connection is None:
            raise ValueError(f"there is no connection {name!r}, which the dataset {reference!r} names")
        from pipelines.datasets.connections import check_connection  # models that only datasets need

        check_connection(target, name, connection)
        return Bound(target, uri, known, connection)

    def named(self, namespace: str, name: str) -> str | None:
        """Return the configured name of a dataset in OpenLineage naming, None when it has none."""
        for key, known in self._datasets.items():
            target = parse_target(known.uri, self._base)
            if (target.namespace, target.name) == (namespace, name):
                return key
        return None


def plain_how(how: How) -> dict[str, Any]:
    """Return it as JSON values."""
    return asdict(how)
