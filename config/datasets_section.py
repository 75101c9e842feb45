"""The section `datasets`: what tasks read and write, where it lies, how it is written, and what is expected of it.

In flow the entries of the tree; out flow DatasetDefs. Expectations (`freshness`, `checks`) stand beside the data they
judge; whoever judges reads them from the definition.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from config.problems import Path, known_names
from config.reading import Reading
from config.service_section import Options
from config.yaml import Scalar
from pipelines.checks.written import Written
from pipelines.datasets.catalog import is_uri
from pipelines.datasets.definition import DELETED_AT, DatasetDef, Freshness, Mode, SchemaPolicy
from pipelines.datasets.target import parse_target
from pipelines.pipeline import PipelineDef
from sensors.adapters.schedule_times import Cron, zone_of
from sensors.units import Duration

_Column: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


def _cron(value: str) -> str:
    Cron(value, zone_of("UTC"))
    return value


def _zone(value: str) -> str:
    zone_of(value)
    return value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Columns = Annotated[tuple[_Column, ...], BeforeValidator(_one_or_many)]


class FreshnessOptions(Options):
    """How fresh the data must be: an age, a time by which it is due, or both."""

    max_age: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="the oldest that the data may become"
    )
    due: Annotated[str, AfterValidator(_cron)] | None = Field(
        default=None,
        max_length=200,
        description="by when new data must be there: a cron expression such as `0 7 * * *`",
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="whose clock `due` goes by, such as Europe/Oslo"
    )
    probe: str | None = Field(
        default=None,
        min_length=1,
        description="a query that answers how fresh the data is; also for tables that nobody here writes",
    )
    grace: Duration = Field(default=0.0, description="how much later than allowed is still in time")
    window: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None,
        description="how long before a tick of `due` an update counts for it; by default since the tick before",
    )
    every: Annotated[Duration, Field(ge=1)] | None = Field(
        default=None,
        description="how often `probe` is asked; by default as often as `max_age` or `due` need",
    )

    @model_validator(mode="after")
    def _says_something(self) -> "FreshnessOptions":
        if self.max_age is None and self.due is None:
            raise ValueError('freshness says nothing of when data is stale; write `max_age: 26h` or `due: "0 7 * * *"`')
        if self.window is not None and self.due is None:
            raise ValueError("`window` belongs to `due`")
        if self.every is not None and self.probe is None:
            raise ValueError("`every` belongs to `probe`; what is written here is seen when it is written")
        return self


class DatasetOptions(Options):
    """One entry of `datasets`: what tasks read and write, by OpenLineage naming."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str = Field(
        pattern=r"^[a-z][a-z0-9+.-]*://\S+$",
        description="where it lies: a URI such as duckdb://warehouse.duckdb/main.t",
    )
    connection: str | None = None
    mode: Mode = Field(default="replace", description="what a write does to the rows that are there")
    key: Columns = Field(default=(), description="columns by which `merge` and `soft_delete` know a row again")
    partition_by: Columns = Field(
        default=(), description="columns of whose values a write replaces only those that it brings"
    )
    evolution: SchemaPolicy = Field(
        default="evolve",
        alias="schema",
        description="`evolve` takes new columns and keeps dropped ones, `strict` refuses both",
    )
    deleted_at: _Column = Field(
        default=DELETED_AT, description="the column in which `soft_delete` notes when a row went"
    )
    freshness: FreshnessOptions | None = Field(default=None, description="how fresh the data must be")
    checks: tuple[Written, ...] = Field(default=(), description="what must hold of the data; see `tidegate kinds`")
    tags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> "DatasetOptions":
        if self.mode in ("merge", "soft_delete") and not self.key:
            raise ValueError(f"mode {self.mode} needs to know rows again; name the columns: `key: [id]`")
        return self


def read_datasets(reading: Reading, connections: Mapping[str, Any]) -> dict[str, DatasetDef]:
    """Read the section `datasets`; whatever is wrong is reported."""
    datasets: dict[str, DatasetDef] = {}
    for name in reading.table(("datasets",)):
        path = ("datasets", name)
        options = reading.validate(DatasetOptions, path)
        named = reading.node((*path, "connection"))
        if isinstance(named, Scalar) and isinstance(named.value, str) and named.value not in connections:
            reading.problem(
                (*path, "connection"),
                f"there is no connection `{named.value}`",
                known_names(named.value, connections),
            )
        if options is not None:
            datasets[name] = _definition(name, options)
            _check_place(reading, datasets[name], connections)
    return datasets


def check_references(reading: Reading, pipelines: Mapping[str, PipelineDef]) -> None:
    """Report what tasks call datasets and is none: a name that is not configured, or a URI that is not one."""
    known = reading.table(("datasets",))
    for name, pipeline in pipelines.items():
        for task in pipeline.tasks:
            output = task.options.get("output") if task.engine in ("python", "dask") else None
            named = {
                "output": (output,) if isinstance(output, str) else (),
                "outputs": () if task.outputs == (output,) else task.outputs,
                "inputs": tuple(task.inputs.values()),
            }
            for key, reference in ((key, one) for key, references in named.items() for one in references):
                place: Path = ("pipelines", name, "tasks", task.name, key)
                where = place if reading.node(place) is not None else ("pipelines", name, key)
                if not is_uri(reference):
                    if reference not in known:
                        hint = known_names(reference, known)
                        reading.problem(where, f"there is no dataset `{reference}` in `datasets`", hint)
                elif "${{" not in reference:
                    try:
                        parse_target(reference, reading.base)
                    except ValueError as error:
                        _tell(reading, where, error)


def _check_place(reading: Reading, dataset: DatasetDef, connections: Mapping[str, Any]) -> None:
    from pipelines.datasets.connections import check_connection  # models that only datasets need

    path: Path = ("datasets", dataset.name)
    try:
        target = parse_target(dataset.uri, reading.base)
    except ValueError as error:
        _tell(reading, (*path, "uri"), error)
        return
    if dataset.connection is not None and dataset.connection not in connections:
        return
    connection = connections.get(dataset.connection or "")
    try:
        check_connection(target, dataset.connection, connection)
    except ValueError as error:
        _tell(reading, (*path, "connection" if connection is not None else "uri"), error)
    one_file = target.format in ("csv", "json", "jsonl") and not target.folder
    if one_file and (dataset.mode != "replace" or dataset.partition_by):
        reading.problem(
            path,
            f"a {target.format} file can only be replaced as a whole",
            "name a folder (a slash at the end of the URI), a Parquet file, or a database",
            key=True,
        )


def _tell(reading: Reading, path: Path, error: ValueError) -> None:
    message, _, remedy = str(error).partition("; ")
    reading.problem(path, message, remedy)


def _definition(name: str, options: DatasetOptions) -> DatasetDef:
    return DatasetDef(
        name=name,
        uri=options.uri,
        connection=options.connection,
        mode=options.mode,
        key=options.key,
        partition_by=options.partition_by,
        schema=options.evolution,
        deleted_at=options.deleted_at,
        freshness=Freshness(**options.freshness.model_dump()) if options.freshness is not None else None,
        checks=tuple(check if isinstance(check, str) else dict(check) for check in options.checks),
        tags=options.tags,
    )
