"""DatasetDef: one entry of `datasets:`, as plain frozen data. It holds no secrets; those are the connection's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Mode = Literal["replace", "append", "merge", "soft_delete"]
SchemaPolicy = Literal["evolve", "strict"]
DELETED_AT: Final = "_deleted_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How fresh the data must be. `max_age` is seconds; `due` a cron expression on the clock of `timezone`.

    `probe` is a query that answers one moment: how fresh the data is by its own account, also where nobody here
    writes it. `grace` is how much later is still in time, `window` how long before a tick an update counts for it
    (None: since the tick before), `every` how often the probe is asked (None: as often as needed); all in seconds.
    """

    max_age: float | None = None
    due: str | None = None
    timezone: str = "UTC"
    probe: str | None = None
    grace: float = 0.0
    window: float | None = None
    every: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDef:
    """One configured dataset: what it is called here, where it lies, and how tasks write it.

    `connection` names an entry of `connections:`. `mode` is what a write does to what is there; `key` are the columns
    by which `merge` and `soft_delete` know a row again; `partition_by` the columns of which a write replaces only the
    values that it brings; `deleted_at` the column in which `soft_delete` notes when a row went. `checks` are kept as
    they were written.
    """

    name: str
    uri: str
    connection: str | None = None
    mode: Mode = "replace"
    key: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    schema: SchemaPolicy = "evolve"
    deleted_at: str = DELETED_AT
    freshness: Freshness | None = None
    checks: tuple[str | Mapping[str, Any], ...] = ()
    tags: tuple[str, ...] = ()
