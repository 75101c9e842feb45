"""What the dispatcher's parts share: the doors to the house, the settings, and definitions made ready for use."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipelines.conditions import SLICE_SCOPE, Evaluate, compile_condition
from pipelines.graph import ancestors
from pipelines.logbook import LogBook
from pipelines.pipeline import PipelineDef
from pipelines.pools import Pools
from pipelines.ports import Engine, Observer, RunStore
from pipelines.run import Run, TaskRun
from pipelines.shape import Shape
from pipelines.task import TaskDef
from sensors.clock import Clock
from sensors.w3c import child_of

TASK_SCOPE = SLICE_SCOPE  # names that a task's `${{ … }}` may use; `item` has a value only where it fans out

T = TypeVar("T")
R = TypeVar("R")

Render = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def no_propagation(_run: Run, _task_run: TaskRun) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Hand no trace context over."""
    return {}, {}


def literal_options(options: Mapping[str, Any]) -> Render:
    """Take options as they are written: for tests, and where nothing can hold `${…}`."""
    return lambda _scope: options


def no_fail_point(name: str) -> None:
    """Pass every named point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """Seconds, and how many runs one process holds at once. `lease` is renewed three times before it ends."""

    lease: float = 30.0
    grace: float = 5.0
    runs: int = 256
    poll: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What the house puts into the dispatcher.

    `propagate` gives (environment, headers) that carry an attempt's context to its engine. `compile` makes a renderer
    of a task's options, once per definition; it is asked only for options that hold `${` (templates, references), and
    the renderer gets a scope of `TASK_SCOPE`. `random` gives 0 ≤ x < 1; `mint_span` a traceparent below another;
    `pools` the limits of pools that are in force.
    """

    propagate: Callable[[Run, TaskRun], tuple[Mapping[str, str], Mapping[str, str]]] = no_propagation
    compile: Callable[[Mapping[str, Any]], Render] = literal_options
    fail_point: Callable[[str], None] = no_fail_point
    random: Callable[[], float] = random.random
    mint_span: Callable[[str], str] = child_of
    pools: Callable[[], Mapping[str, int]] = dict


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What every run's driver works with."""

    store: RunStore
    engines: Mapping[str, Engine]
    observer: Observer
    clock: Clock
    doors: Doors
    logs: LogBook
    pools: Pools


@dataclass(frozen=True, slots=True)
class ReadyTask:
    """A task of a definition with its renderer (None: its options are literal) and the names of all tasks above it.

    `when` and `partitions` are evaluated where they are expressions.
    """

    task: TaskDef
    render: Render | None
    wants_events: bool
    above: Sequence[str]
    when: Evaluate | None = None
    partitions: Evaluate | None = None


@dataclass(frozen=True, slots=True)
class ReadyDefinition:
    """A definition made ready: its shape, and its tasks by name."""

    definition: PipelineDef
    shape: Shape
    tasks: Mapping[str, ReadyTask] = field(default_factory=dict)


def make_ready(definition: PipelineDef, compile_options: Callable[[Mapping[str, Any]], Render]) -> ReadyDefinition:
    """Compile the options of a definition's tasks. What `compile_options` raises fails the task when it starts."""
    above = ancestors(definition)
    ready = {}
    for task in definition.tasks:
        texts = [text for text in _texts(task.options) if "${" in text]
        render = _compiled(task.options, compile_options) if texts else None
        conditions = [text for text in (task.when, task.partitions) if isinstance(text, str)]
        wants_events = any("${{" in text and "events" in text for text in texts) or any(
            "events" in text for text in conditions
        )
        ready[task.name] = ReadyTask(
            task,
            render,
            wants_events,
            sorted(above[task.name]),
            when=None if task.when is None else _compiled(task.when, compile_condition),
            partitions=_compiled(task.partitions, compile_condition) if isinstance(task.partitions, str) else None,
        )
    return ReadyDefinition(definition, Shape(definition), ready)


def _compiled(source: T, compile_source: Callable[[T], Callable[[Mapping[str, Any]], R]]) -> Callable[..., R]:
    """Compile; keep what went wrong for the moment when the result is needed."""
    try:
        return compile_source(source)
    except Exception as error:  # noqa: BLE001 - told when it is needed, as the failure of that task
        problem = error

        def broken(_scope: Mapping[str, Any]) -> R:
            raise problem

        return broken


def _texts(value: Any) -> list[str]:
    """Return all strings inside nested options, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _texts(part)]
    return []
