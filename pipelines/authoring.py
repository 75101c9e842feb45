"""The Python in which people write pipelines: `@task` functions, `pipeline(...)`, and checks.

A task depends on the tasks that its parameters name; any other parameter is a parameter of the run, typed by its
annotation (`str int float bool date datetime list dict`, or none) and optional when it has a default. The parameter
`context` is special: what the run knows of itself.

    @task(retries=5, timeout="10m")
    def extract(path: str) -> pl.DataFrame: ...


    @task(output="duckdb://warehouse.duckdb/main.orders", checks=[row_count(min=1), not_null("id")])
    def orders(extract: pl.DataFrame) -> pl.DataFrame: ...

In the configuration, `{python: "my_module:orders"}` is the pipeline that ends in `orders`; `my_module:nightly` may name
what `nightly = pipeline("nightly", tasks=[orders, report])` made. Functions run in worker processes, which import them
by name: they stand at the top level of a module, and importing that module does no work.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pipelines.checks.authored import (
    accepted_values,
    between,
    columns_match_last,
    custom,
    freshness,
    matches,
    not_null,
    pandera,
    reconcile,
    row_count,
    schema,
    sql,
    unique,
)
from pipelines.checks.spec import CheckSpec
from pipelines.context import Context
from pipelines.datasets.definition import Mode
from pipelines.errors import DefinitionError
from pipelines.placing import check_place
from pipelines.task import Retries

__all__ = [
    "CheckSpec",
    "Context",
    "Pipeline",
    "Retries",
    "Task",
    "accepted_values",
    "between",
    "columns_match_last",
    "custom",
    "freshness",
    "matches",
    "not_null",
    "pandera",
    "pipeline",
    "reconcile",
    "row_count",
    "schema",
    "sql",
    "task",
    "unique",
]

P = ParamSpec("P")
R = TypeVar("R")

Needs = Sequence["str | Task[..., Any]"]
Inputs = Sequence[str] | Mapping[str, str]
Partitions = Any  # a list, a map, CEL, or the task whose output it is
Failures = str | Sequence[str | type[BaseException]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskShape:
    """What `@task` was told of when, how often and how much at once; see `pipelines.task.TaskDef`."""

    when: str | None = None
    partitions: Any = None
    per: "str | Task[..., Any] | None" = None
    require: int | float | None = None
    max_parallel: int | None = None
    pool: str | None = None
    retry_on: tuple[str, ...] = ()
    never_retry_on: tuple[str, ...] = ()
    timeout_all: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """What `@task` was told. `timeout` is seconds."""

    retries: Retries = field(default_factory=Retries)
    timeout: float = 86_400.0
    output: str | None = None
    mode: str | None = None
    key: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[CheckSpec, ...] = ()
    needs: "tuple[str | Task[..., Any], ...]" = ()
    upstream: str = "all_success"
    on_failure: str = "stop"
    tags: tuple[str, ...] = ()
    on: str = ""
    memory: str | int | None = None
    in_loop: bool = False
    events: bool | None = None
    shape: TaskShape = field(default_factory=TaskShape)


class Task(Generic[P, R]):
    """A function that is a task. Calling it calls the function, as in a unit test."""

    def __init__(self, function: Callable[P, R], settings: TaskSettings) -> None:
        self.function = function
        self.settings = settings
        self.name = function.__name__
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.__module__}:{self.__qualname__}>"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Named tasks with everything they depend on. Durations in seconds; `finish_by` is a time of day:
    `07:00`, or `07:00 Europe/Oslo mon-fri`."""

    name: str
    tasks: tuple[Task[..., Any], ...]
    concurrency: int = 16
    max_tasks: int = 16
    start_within: float | None = None
    finish_by: str | None = None
    tags: tuple[str, ...] = ()
    on: str = ""
    timeout: float | None = None


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    *,
    retries: int | Retries | Mapping[str, Any] = 0,
    timeout: str | float = 86_400.0,
    output: str | None = None,
    mode: Mode | None = None,
    key: str | Sequence[str] = (),
    inputs: Inputs = (),
    checks: Sequence[CheckSpec] = (),
    needs: Needs = (),
    upstream: str = "all_success",
    on_failure: str = "stop",
    tags: Sequence[str] = (),
    on: str = "",
    memory: str | int | None = None,
    in_loop: bool = False,
    events: bool | None = None,
    when: str | None = None,
    partitions: Partitions = None,
    per: "str | Task[..., Any] | None" = None,
    require: float | None = None,
    max_parallel: int | None = None,
    pool: str | None = None,
    retry_on: Failures = (),
    never_retry_on: Failures = (),
    timeout_all: str | float | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(  # noqa: PLR0913 - one place for all that can be said of a task
    function: Callable[..., Any] | None = None,
    /,
    *,
    retries: int | Retries | Mapping[str, Any] = 0,
    timeout: str | float = 86_400.0,
    output: str | None = None,
    mode: Mode | None = None,
    key: str | Sequence[str] = (),
    inputs: Inputs = (),
    checks: Sequence[CheckSpec] = (),
    needs: Needs = (),
    upstream: str = "all_success",
    on_failure: str = "stop",
    tags: Sequence[str] = (),
    on: str = "",
    memory: str | int | None = None,
    in_loop: bool = False,
    events: bool | None = None,
    when: str | None = None,
    partitions: Partitions = None,
    per: "str | Task[..., Any] | None" = None,
    require: float | None = None,
    max_parallel: int | None = None,
    pool: str | None = None,
    retry_on: Failures = (),
    never_retry_on: Failures = (),
    timeout_all: str | float | None = None,
) -> Any:
    """Make a function a task; use bare (`@task`) or with settings.

    `retries` counts repeats after a failed attempt (or is a `Retries` with back-off and jitter). `timeout` bounds one
    attempt: `"10m"`, or seconds. `output` is the dataset (a name of `datasets`, or a URI) that the returned table is
    written to, after its `checks` passed; `mode` says what becomes of what is there (`replace`, `append`, `merge`,
    `soft_delete`) and `key` by which columns rows are known again, where that differs from the dataset's entry.
    `inputs` are datasets to read: names, or a map of parameters to them; each parameter gets a table. `needs` adds
    tasks that must come first without handing anything over. `upstream` is `all_success`, `all_done`, `any_success` or
    `2_of`; `on_failure="continue"` lets the run go on, and succeed, without this task.

    `when` is CEL over `params, partition, run, events, tasks`: where it is false, the task is skipped. `partitions`
    fans the task out, one call per element: a list, a map of names to elements, CEL that gives one, or the task whose
    output it is; the function's parameters `item` and `partition` are the element and its name. `per` names a task
    that fans out instead: one call per slice of it, with that slice's output. `require` is how many slices must
    succeed (all; a number; a share below 1), `max_parallel` how many run at once; `pool` bounds it beside other tasks.
    `retry_on` and `never_retry_on` narrow retries down to error kinds, exceptions (or their names), `exit:75`,
    `http:503`. `timeout_all` bounds all attempts and the waits between them.

    `on` is where it runs: here (empty), `"dask"`, `"dask:CONNECTION"`, or a scheduler's address. `memory` is the most
    that it may use (`"2GiB"`, or bytes). `in_loop` calls an `async def` in the service's own loop, for tasks that
    only wait. `events` says whether the context brings the causing events (None: when the function says `.events`).
    Raises DefinitionError for settings that cannot be.
    """
    for check in checks:
        if not isinstance(check, CheckSpec):
            raise DefinitionError(f"{check!r} is no check", "checks", "use row_count(), between(), not_null(), …")
    settings = TaskSettings(
        retries=_retries(retries),
        timeout=_seconds(timeout),
        output=output,
        mode=mode,
        key=(key,) if isinstance(key, str) else tuple(key),
        inputs=_inputs(inputs),
        checks=tuple(checks),
        needs=tuple(needs),
        upstream=upstream,
        on_failure=on_failure,
        tags=tuple(tags),
        on=check_place(on),
        memory=memory if memory is None else _size(memory),
        in_loop=in_loop,
        events=events,
        shape=TaskShape(
            when=when,
            partitions=partitions,
            per=per,
            require=require,
            max_parallel=max_parallel,
            pool=pool,
            retry_on=_failures(retry_on),
            never_retry_on=_failures(never_retry_on),
            timeout_all=None if timeout_all is None else _seconds(timeout_all),
        ),
    )
    if in_loop and (on or memory is not None):
        raise DefinitionError(
            "in_loop goes with neither `on` nor `memory`", hint="the service's loop is one place, and its memory one"
        )

    def decorate(decorated: Callable[..., Any]) -> Task[..., Any]:
        if in_loop and not inspect.iscoroutinefunction(decorated):
            raise DefinitionError(
                f"in_loop is for `async def`, and {decorated!r} is none", hint="leave it out: then it may block"
            )
        if not inspect.isfunction(decorated):
            raise DefinitionError(
                f"@task decorates functions, not {decorated!r}", hint="define it with def or async def"
            )
        return Task(decorated, settings)

    return decorate if function is None else decorate(function)


def pipeline(
    name: str,
    tasks: Sequence[Task[..., Any]],
    *,
    concurrency: int = 16,
    max_tasks: int = 16,
    start_within: str | float | None = None,
    finish_by: str | None = None,
    tags: Sequence[str] = (),
    on: str = "",
    timeout: str | float | None = None,
) -> Pipeline:
    """Name a pipeline by the tasks it ends in (or all of them); what they depend on belongs to it by itself.

    `concurrency` bounds its runs under way, `max_tasks` its tasks at once within one run, `timeout` the time from a
    run's start to its end. `on` is where its tasks run that do not say so themselves: `"dask"`, `"dask:CONNECTION"` or
    a scheduler's address. Raises DefinitionError.
    """
    for one in tasks:
        if not isinstance(one, Task):
            raise DefinitionError(f"{one!r} in pipeline {name!r} is no task", "tasks", "decorate it with @task")
    return Pipeline(
        name=name,
        tasks=tuple(tasks),
        concurrency=concurrency,
        max_tasks=max_tasks,
        start_within=None if start_within is None else _seconds(start_within),
        finish_by=finish_by,
        tags=tuple(tags),
        on=check_place(on),
        timeout=None if timeout is None else _seconds(timeout),
    )


def _inputs(value: Inputs) -> Mapping[str, str]:
    named = dict(value) if isinstance(value, Mapping) else {name: name for name in value}
    for parameter in named:
        if not parameter.isidentifier():
            raise DefinitionError(
                f"the input {parameter!r} can be no parameter", "inputs", 'name one: inputs={"orders": "…"}'
            )
    return named


def _retries(value: int | Retries | Mapping[str, Any]) -> Retries:
    if isinstance(value, Retries):
        return value
    if isinstance(value, Mapping):
        settings = dict(value)
        for name in ("backoff", "max_delay"):
            if name in settings:
                settings[name] = _seconds(settings[name])
        try:
            return Retries(**settings)
        except TypeError:
            known = "attempts, backoff, factor, max_delay, jitter"
            raise DefinitionError(
                f"unknown setting in retries {dict(value)!r}", "retries", f"known are: {known}"
            ) from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise DefinitionError(f"retries is a number of repeats, not {value!r}", "retries", "retries=3")
    return Retries(attempts=value)


def _failures(value: Failures) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    return tuple(word if isinstance(word, str) else word.__name__ for word in words)


def _seconds(value: str | float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    from sensors.units import parse_duration  # pydantic comes with it, which a task module need not pay for

    try:
        return parse_duration(value)
    except ValueError as error:
        raise DefinitionError(
            f"{value!r} is no duration: {error}", hint='write "30s", "10m", "2h", or seconds'
        ) from error


def _size(value: str | int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    from sensors.units import parse_size  # as above

    try:
        return parse_size(value)
    except ValueError as error:
        raise DefinitionError(f"{value!r} is no size: {error}", hint='write "500MiB", "2GiB", or bytes') from error
