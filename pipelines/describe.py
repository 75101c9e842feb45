"""From authored tasks to a PipelineDef: who needs whom, and which parameters a run has. Calls no task.

In flows a `Task` or a `Pipeline` of `pipelines.authoring`; out flows plain data, tasks in topological order. A
parameter name that is a task beside the function (a global of its module, or one of the pipeline's tasks) is a need;
any other is a parameter of the run.
"""

import datetime as dt
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.authoring import Pipeline, Task
from pipelines.checks.spec import as_plain
from pipelines.context import Context
from pipelines.deadlines import parse_finish_by
from pipelines.errors import DefinitionError, ParameterError
from pipelines.graph import check_definition, nearest, ordered
from pipelines.params import coerce
from pipelines.pipeline import Param, PipelineDef
from pipelines.placing import placed
from pipelines.task import TaskDef

ENGINE = "python"
CONTEXT = "context"
SLICE = ("item", "partition")  # parameters of a task that fans out: the element and its name

AnyTask = Task[..., Any]

_TYPES: Mapping[Any, str] = types.MappingProxyType(
    {
        str: "str",
        int: "int",
        float: "float",
        bool: "bool",
        dt.date: "date",
        dt.datetime: "datetime",
        list: "list",
        tuple: "list",
        dict: "map",
        Any: "any",
        object: "any",
        inspect.Parameter.empty: "any",
    }
)


def describe(target: "AnyTask | Pipeline", *, name: str = "", sys_path: Sequence[str] = ()) -> PipelineDef:
    """Return the definition of a pipeline, or of the one that ends in a task.

    `sys_path` are folders that the workers put on their import path. Raises DefinitionError with the path of the place.
    """
    made = Pipeline(name=name or target.name, tasks=(target,)) if isinstance(target, Task) else target
    tasks, needs = _gather(made)
    params: dict[str, Param] = {}
    for one in tasks.values():
        _add_params(params, one, tasks)
    definition = PipelineDef(
        name=name or made.name,
        tasks=tuple(
            placed(_task_def(one, needs[one.name], sys_path), one.settings.on or made.on) for one in tasks.values()
        ),
        params=params,
        concurrency=made.concurrency,
        max_tasks=made.max_tasks,
        start_within=made.start_within,
        finish_by=made.finish_by,
        tags=made.tags,
        timeout=made.timeout,
    )
    if definition.finish_by is not None:
        try:
            parse_finish_by(definition.finish_by)
        except ValueError as error:
            raise DefinitionError(f"the deadline of pipeline {definition.name!r} cannot be: {error}") from None
    problems = check_definition(definition)
    if problems:
        raise problems[0]
    return PipelineDef(**{**_fields(definition), "tasks": tuple(ordered(definition))})


def _fields(definition: PipelineDef) -> dict[str, Any]:
    return {name: getattr(definition, name) for name in PipelineDef.__dataclass_fields__}


def _gather(made: Pipeline) -> tuple[dict[str, AnyTask], dict[str, tuple[str, ...]]]:
    """Return all tasks by name and their needs, following parameters and `needs` upwards."""
    listed = {one.name: one for one in made.tasks}
    tasks: dict[str, AnyTask] = {}
    needs: dict[str, tuple[str, ...]] = {}
    todo = list(made.tasks)
    while todo:
        one = todo.pop(0)
        known = tasks.get(one.name)
        if known is one:
            continue
        if known is not None:
            raise DefinitionError(
                f"two tasks are named {one.name!r}: {known!r} and {one!r}", "tasks", "rename one of them"
            )
        _check_place(one)
        tasks[one.name] = one
        above = [*_explicit_needs(one, listed), *_needed_by_parameters(one, listed)]
        needs[one.name] = tuple(dict.fromkeys(need.name for need in above))
        todo.extend(above)
    return tasks, needs


def _check_place(one: AnyTask) -> None:
    if "<locals>" in one.__qualname__ or "<lambda>" in one.__qualname__:
        said = f"{one!r} stands inside a function, where worker processes cannot import it"
        raise DefinitionError(said, f"tasks.{one.name}", "move it to the top level of its module")


def _explicit_needs(one: AnyTask, listed: Mapping[str, AnyTask]) -> list[AnyTask]:
    found = []
    shape = one.settings.shape
    more = [need for need in (shape.per, shape.partitions if isinstance(shape.partitions, Task) else None) if need]
    for need in (*one.settings.needs, *more):
        if isinstance(need, Task):
            found.append(need)
            continue
        beside = listed.get(need) or one.function.__globals__.get(need)
        if not isinstance(beside, Task):
            hint = nearest(need, sorted(_tasks_beside(one) | set(listed)))
            raise DefinitionError(
                f"task {one.name!r} needs {need!r}, which is not a task", f"tasks.{one.name}.needs", hint
            )
        found.append(beside)
    return found


def _needed_by_parameters(one: AnyTask, listed: Mapping[str, AnyTask]) -> list[AnyTask]:
    found = []
    for name in _asked(one):
        beside = listed.get(name) or one.function.__globals__.get(name)
        if not is_context(one, name) and isinstance(beside, Task):
            found.append(beside)
    return found


def _tasks_beside(one: AnyTask) -> set[str]:
    return {name for name, value in one.function.__globals__.items() if isinstance(value, Task)} - {one.name}


def _parameters(one: AnyTask) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a task's function, all of which can be given by name."""
    parameters = inspect.signature(one.function).parameters
    for parameter in parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            said = f"parameter {parameter} of task {one.name!r} cannot be given by name"
            raise DefinitionError(said, f"tasks.{one.name}", "name each parameter; no *args, **kwargs or /")
    return parameters


def _asked(one: AnyTask) -> Mapping[str, inspect.Parameter]:
    """Return the parameters that tasks or the run give: all but those that get an input's table."""
    parameters, inputs = _parameters(one), one.settings.inputs
    for name in inputs:
        if name not in parameters:
            raise DefinitionError(
                f"task {one.name!r} reads {name!r}, but has no parameter of that name",
                f"tasks.{one.name}.inputs",
                nearest(name, sorted(parameters)),
            )
    return {name: parameter for name, parameter in parameters.items() if name not in inputs}


def _add_params(params: dict[str, Param], one: AnyTask, tasks: Mapping[str, AnyTask]) -> None:
    """Add what a task wants to know of its run; two tasks that want the same must mean the same."""
    for name, parameter in _asked(one).items():
        if name in tasks or is_context(one, name) or (name in SLICE and _fans_out(one)):
            continue
        found = _param(one, name, parameter)
        known = params.get(name)
        if known is None:
            params[name] = found
            continue
        where = f"tasks.{one.name}"
        if "any" not in (known.type, found.type) and known.type != found.type:
            said = f"parameter {name!r} is {found.type} in task {one.name!r} and {known.type} elsewhere"
            raise DefinitionError(said, where, "give it one type")
        if not known.required and not found.required and known.default != found.default:
            said = (
                f"parameter {name!r} defaults to {found.default!r} in task {one.name!r}, to {known.default!r} elsewhere"
            )
            raise DefinitionError(said, where, "give it one default")
        params[name] = Param(
            type=found.type if known.type == "any" else known.type,
            required=known.required or found.required,
            default=None if known.required or found.required else known.default,
        )


def _fans_out(one: AnyTask) -> bool:
    return one.settings.shape.partitions is not None or one.settings.shape.per is not None


def _param(one: AnyTask, name: str, parameter: inspect.Parameter) -> Param:
    type_name, optional = _type_name(one, name, parameter.annotation)
    if parameter.default is inspect.Parameter.empty:
        return Param(type=type_name, required=not optional)
    if parameter.default is None:
        return Param(type=type_name)
    try:
        return Param(type=type_name, default=coerce(name, type_name, parameter.default))
    except ParameterError as error:
        raise DefinitionError(f"the default of task {one.name!r} does not fit: {error}", f"tasks.{one.name}") from error


def parameter_type(one: AnyTask, name: str) -> str:
    """Return the type of a task's parameter in our words: `str int float bool date datetime list map any`."""
    return _type_name(one, name, _parameters(one)[name].annotation)[0]


def _type_name(one: AnyTask, name: str, annotation: Any) -> tuple[str, bool]:
    """Return a parameter's type in our words, and whether None is one of its values."""
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, one.function.__globals__)  # noqa: S307 - the author's own annotation
        except Exception:  # noqa: BLE001 - whatever it is, it is no type that a parameter can have
            annotation = typing.TypeVar("annotation")  # type: ignore[misc]  # a stand-in that is in no table
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _type_name(one, name, typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not types.NoneType]
        optional = len(members) < len(typing.get_args(annotation))
        if len(members) == 1:
            return _type_name(one, name, members[0])[0], optional
        return "any", optional
    if origin is typing.Literal:
        kinds = {type(value) for value in typing.get_args(annotation)}
        annotation = kinds.pop() if len(kinds) == 1 else Any
    found = _TYPES.get(origin or annotation)
    if found is None:
        close = nearest(name, sorted(_tasks_beside(one)))
        said = (
            f"parameter {name!r} of task {one.name!r} is neither a task nor of a type that a run's parameter can have"
        )
        raise DefinitionError(
            said, f"tasks.{one.name}", f"tasks beside it: {close}; types: str int float bool date datetime list dict"
        )
    return found, False


def is_context(one: AnyTask, name: str) -> bool:
    """Say whether a parameter is the context: by its annotation, or by its name."""
    annotation = _parameters(one)[name].annotation
    if isinstance(annotation, str):
        annotation = one.function.__globals__.get(annotation.rpartition(".")[2], annotation)
    return name == CONTEXT or annotation is Context


def _wants_events(one: AnyTask) -> bool:
    """Say whether the causing events are to be at hand: the author said so, or the function says `.events`."""
    if one.settings.events is not None:
        return one.settings.events
    return any(is_context(one, name) for name in _parameters(one)) and _names(one.function.__code__, "events")


def _names(code: types.CodeType, name: str) -> bool:
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return name in code.co_names or any(_names(part, name) for part in inner)


def _checks(one: AnyTask) -> list[dict[str, Any]]:
    """Return a task's checks as plain data. Raises DefinitionError for what cannot be evaluated."""
    from pipelines.checks.registry import needs_memory, options_of

    where = f"tasks.{one.name}.checks"
    for spec in one.settings.checks:
        try:
            options_of(spec)
        except ValueError as error:
            raise DefinitionError(f"a check of task {one.name!r} cannot be: {error}", where) from None
        if needs_memory(spec) and one.settings.output is None:
            raise DefinitionError(
                f"{spec.label} of task {one.name!r} compares with earlier writes, and the task writes nothing",
                where,
                "give the task an output",
            )
    return [as_plain(spec) for spec in one.settings.checks]


def _task_def(one: AnyTask, needs: tuple[str, ...], sys_path: Sequence[str]) -> TaskDef:
    settings = one.settings
    more: dict[str, Any] = {}
    if settings.memory is not None:
        more["memory"] = settings.memory
    if settings.in_loop:
        more["in_loop"] = True
    if _wants_events(one):
        more["events"] = "${{ events }}"
    shape, cut = settings.shape, settings.shape.partitions
    return TaskDef(
        name=one.name,
        engine=ENGINE,
        options={
            "function": f"{one.__module__}:{one.__qualname__}",
            "output": settings.output,
            **({} if settings.mode is None else {"mode": settings.mode}),
            **({"key": list(settings.key)} if settings.key else {}),
            "checks": _checks(one),
            "sys_path": list(sys_path),
            **more,
        },
        needs=needs,
        upstream=settings.upstream,
        on_failure=settings.on_failure,
        retries=settings.retries,
        timeout=settings.timeout,
        outputs=(settings.output,) if settings.output else (),
        inputs=settings.inputs,
        tags=settings.tags,
        when=shape.when,
        partitions=f"tasks.{cut.name}.output" if isinstance(cut, Task) else cut,
        per=shape.per.name if isinstance(shape.per, Task) else shape.per,
        require=shape.require,
        max_parallel=shape.max_parallel,
        pools=() if shape.pool is None else (shape.pool,),
        retry_on=shape.retry_on,
        never_retry_on=shape.never_retry_on,
        timeout_all=shape.timeout_all,
    )
