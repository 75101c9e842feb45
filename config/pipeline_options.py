"""What may stand in an entry of `pipelines`: the option models, as they are validated and documented."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from config.service_section import Options
from config.task_conditions import UPSTREAM_SCHEMA, all_or_some, upstream_rule
from pipelines.deadlines import TIME, Expect, days_of, parse_finish_by
from pipelines.errors import DefinitionError
from pipelines.placing import check_place
from sensors.adapters.schedule_times import zone_of
from sensors.units import Duration


def _retries(value: Any) -> Any:
    return {"attempts": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


def _place(value: str) -> str:
    try:
        return check_place(value)
    except DefinitionError as error:
        raise ValueError(f"{error}; {error.hint}") from error


def _by_name(value: Any) -> Any:
    """Let a list of names stand for a map of each name to itself."""
    listed = [value] if isinstance(value, str) else value
    return {name: name for name in listed} if isinstance(listed, list | tuple) else listed


class RetriesOptions(Options):
    """How often and how patiently a failed attempt is repeated; `retries: 3` is short for `{attempts: 3}`."""

    attempts: int = Field(default=0, ge=0, le=1_000)
    backoff: Duration = 2.0
    factor: float = Field(default=2.0, ge=1.0, le=100.0)
    max_delay: Duration = 300.0
    jitter: float = Field(default=0.2, ge=0.0, le=1.0)


class TaskOptions(Options):
    """What every task has, whatever its engine."""

    engine: str = Field(description="the name of an engine")
    needs: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    upstream: Annotated[str, BeforeValidator(upstream_rule), WithJsonSchema(UPSTREAM_SCHEMA)] = Field(
        default="all_success",
        description="when it starts: `all_success`, `all_done`, `any_success`, or `2_of` (also `{at_least: 2}`)",
    )
    on_failure: Literal["stop", "continue"] = "stop"
    when: str | None = Field(default=None, description="a CEL expression; the task is skipped where it is false")
    partitions: str | list[Any] | dict[str, Any] | None = Field(
        default=None, description="what it fans out over: a list or map, or a CEL expression that gives one"
    )
    per: str | None = Field(
        default=None, description="a need that fans out: one slice per slice of it, started when that one succeeded"
    )
    require: Annotated[int | float | None, BeforeValidator(all_or_some)] = Field(
        default=None, description="how many partitions must succeed: `all`, a number, or a share such as `0.9`"
    )
    max_parallel: int | None = Field(default=None, ge=1, le=10_000, description="how many partitions run at once")
    pool: str | None = Field(default=None, description="the name of a pool, which bounds it together with others")
    retries: Annotated[RetriesOptions, BeforeValidator(_retries)] = RetriesOptions()
    retry_on: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = Field(
        default=(), description="only these failures are repeated: kinds, exceptions, `exit:75`, `http:503`"
    )
    never_retry_on: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = Field(
        default=(), description="these failures are never repeated"
    )
    timeout: Annotated[Duration, Field(gt=0)] = 86_400.0
    timeout_all: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="the time of all attempts and the waits between them together"
    )
    outputs: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    inputs: Annotated[
        Mapping[str, str], BeforeValidator(_by_name, json_schema_input_type=Mapping[str, str] | list[str] | str)
    ] = Field(
        default_factory=dict, description="datasets that it reads: a list of names, or a map of its own names to them"
    )
    tags: tuple[str, ...] = ()


class ParamOptions(Options):
    """One parameter."""

    type: Literal["str", "int", "float", "bool", "date", "datetime", "list", "map", "any"] = "any"
    required: bool = False
    default: Any = None


def _finish_by(value: Any) -> Any:
    return asdict(parse_finish_by(value)) if isinstance(value, str) else value


def _days(value: Any) -> Any:
    if isinstance(value, str):
        return days_of([value])
    return days_of(value) if isinstance(value, list) and all(isinstance(day, str) for day in value) else value


def _zone(value: str) -> str:
    zone_of(value)
    return value


class FinishOptions(Options):
    """By when a run should be done: a time of day."""

    time: str = Field(pattern=rf"^{TIME}$", description="`HH:MM`")
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="whose clock it is, such as Europe/Oslo"
    )
    days: Annotated[
        tuple[int, ...], BeforeValidator(_days, json_schema_input_type=str | tuple[str, ...]), Field(min_length=1)
    ] = Field(default=tuple(range(7)), description="on which days: `mon-fri`, or a list such as [mon, thu]; else all")
    expect: Expect = Field(
        default="scheduled",
        description="when a run that never came is late: `scheduled`, if a schedule was to start one; `daily`; `never`",
    )


class DeadlineOptions(Options):
    """By when a run should have started, and be done."""

    start_within: Duration | None = None
    finish_by: Annotated[
        FinishOptions | None, BeforeValidator(_finish_by, json_schema_input_type=str | FinishOptions | None)
    ] = None


class PipelineOptions(Options):
    """What an entry says besides its tasks. None: as the pipeline's Python says, or the default."""

    params: Mapping[str, ParamOptions] | None = None
    concurrency: int | None = Field(default=None, ge=1, le=100_000)
    max_tasks: int | None = Field(default=None, ge=1, le=10_000)
    timeout: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="from a run's start to its end; a run that takes longer fails"
    )
    deadlines: DeadlineOptions = DeadlineOptions()
    tags: tuple[str, ...] = ()
    on: Annotated[str, AfterValidator(_place)] | None = None
