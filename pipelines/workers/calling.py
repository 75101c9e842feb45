"""Calling a task's function: names become arguments, JSON becomes what annotations ask for.

In flow the function and the job's values; out flows what the function returned. A parameter gets, in this order: the
task's own argument of that name (of a slice: its `item` and `partition`), what the needed task of that name handed on,
the run's parameter, the context (by annotation, or by the name `context`), its default.
"""

import asyncio
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

from pipelines.context import Context
from pipelines.datasets.values import ValueTrouble, load
from pipelines.errors import TaskFailed
from pipelines.graph import nearest
from pipelines.workers.frames import Job

CONTEXT = "context"


def call(function: Callable[..., Any], context: Context, job: Job) -> Any:
    """Call the function with what its parameters name; an `async def` runs to its end in a loop of its own."""
    positional, named = bound(function, context, job)
    if inspect.iscoroutinefunction(function):
        return asyncio.run(function(*positional, **named))
    return function(*positional, **named)


def bound(function: Callable[..., Any], context: Context, job: Job) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and named arguments; raises TaskFailed (not retryable) for one that is nowhere to be had."""
    args, upstream, params = {**job.slice, **job.args}, job.upstream, job.params
    positional: list[Any] = []
    named: dict[str, Any] = {}
    hints, parameters = _shape(function)
    for name, parameter in parameters.items():
        hint = hints.get(name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update({key: value for key, value in {**params, **job.args}.items() if key not in named})
            continue
        if name in args:
            value = typed(name, args[name], hint)
        elif hint is Context:
            value = context
        elif name in upstream:
            value = _handed_on(name, upstream[name], hint)
        elif name in params:
            value = typed(name, params[name], hint)
        elif name == CONTEXT:
            value = context
        elif parameter.default is not parameter.empty:
            continue
        else:
            raise _missing(name, {*args, *upstream, *params})
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(value)
        else:
            named[name] = value
    _refuse_unknown(parameters, job.args)
    return positional, named


@lru_cache(maxsize=256)
def _shape(function: Callable[..., Any]) -> tuple[Mapping[str, Any], Mapping[str, inspect.Parameter]]:
    """Return the annotations as types, and the parameters: read once, for short tasks are called often."""
    return _hints(function), inspect.signature(function).parameters


def is_context(function: Callable[..., Any], name: str) -> bool:
    """Say whether a parameter of a function gets the context."""
    return name == CONTEXT or _hints(function).get(name) is Context


def _refuse_unknown(parameters: Mapping[str, inspect.Parameter], args: Mapping[str, Any]) -> None:
    """Refuse arguments of the task's own that the function does not take: they are mistyped, not meant for nobody."""
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    for name in args:
        if name not in parameters:
            raise TaskFailed(
                f"the function takes no argument {name!r}; {nearest(name, list(parameters))}",
                "bad_arguments",
                retryable=False,
            )


def typed(name: str, value: Any, hint: Any) -> Any:
    """Turn JSON text into the date, time, Decimal or Path that the function asks for."""
    hint = _without_none(hint)
    if not isinstance(value, str):
        return value
    try:
        if hint in (datetime, date, time):
            return hint.fromisoformat(value)
        if hint in (Decimal, Path):
            return hint(value)
    except (ValueError, ArithmeticError) as error:
        raise TaskFailed(
            f"argument {name!r} must be a {hint.__name__}, and {value!r} is none: {error}",
            "bad_arguments",
            retryable=False,
        ) from error
    return value


def _handed_on(name: str, output: Any, hint: Any) -> Any:
    """Return what a needed task handed on, in the library that the function asks for."""
    hint = _without_none(hint)
    wanted = f"{getattr(hint, '__module__', '').partition('.')[0]}.{getattr(hint, '__name__', '')}"
    try:
        return load(output, wanted)
    except ValueTrouble as error:
        raise ValueTrouble(f"what task {name!r} handed on cannot be had: {error}") from error


def _missing(name: str, known: set[str]) -> TaskFailed:
    hint = nearest(name, sorted(known))
    return TaskFailed(
        f"the function's parameter {name!r} is neither a task that it needs, nor a parameter of the run, "
        f"nor has it a default; {hint}",
        "bad_arguments",
        retryable=False,
    )


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the annotations as types, each by itself: one that cannot be resolved leaves its value as it came."""
    with suppress(Exception):  # annotations are the user's
        return get_type_hints(function)
    found: dict[str, Any] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        try:
            found[name] = eval(hint, function.__globals__) if isinstance(hint, str) else hint  # noqa: S307 - as above
        except Exception:  # noqa: BLE001, S112 - as above
            continue
    return found


def _without_none(hint: Any) -> Any:
    """Return `X` for `X | None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not types.NoneType]
        return members[0] if len(members) == 1 else hint
    return hint
