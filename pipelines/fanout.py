"""Fanning out and in: from the elements of `partitions` to named slices, from slices to one end and one output. Pure.

A text, number or boolean is its own name; a map is named by its field `partition`, `name`, `key` or `id`, or by its key
when `partitions` is a map. The output of a task that fans out is the list of its slices' outputs, in the order of the
elements, null for a slice that did not succeed; a list that would be too large becomes a summary that says so.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipelines.errors import TaskFailed
from pipelines.run import TaskRun, TaskState
from pipelines.task import TaskDef
from sensors.event import storable_text
from sensors.uid import TASK_RUN

MAX_SLICES = 50_000
MAX_NAME = 256  # characters
MAX_ITEM = 65_536  # bytes of JSON of one element
MAX_LIST = 1_048_576  # bytes of JSON of the list of all outputs
NAMED_BY = ("partition", "name", "key", "id")
_BLAMED = 5

Slices = Sequence[tuple[str, str]]


def slices_of(value: Any) -> Slices:
    """Return name and element (JSON text) of every slice. Raises TaskFailed with the element at fault."""
    if isinstance(value, Mapping):
        named = [(str(name), item) for name, item in value.items()]
    elif isinstance(value, list | tuple):
        named = [(_name(place, item), item) for place, item in enumerate(value)]
    else:
        raise _wrong(f"`partitions` gave {_kind(value)}, not a list or a map")
    if len(named) > MAX_SLICES:
        raise _wrong(f"`partitions` gave {len(named)} elements; a task takes at most {MAX_SLICES}")
    seen: dict[str, int] = {}
    found = []
    for place, (name, item) in enumerate(named):
        if not name or len(name) > MAX_NAME or not storable_text(name):
            raise _wrong(
                f"element {place} of `partitions` has the unusable name {name[:80]!r}: 1 to {MAX_NAME} letters"
            )
        if name in seen:
            raise _wrong(
                f"elements {seen[name]} and {place} of `partitions` are both named {name!r}; names must differ"
            )
        seen[name] = place
        try:
            text = orjson.dumps(item)
        except TypeError as error:
            raise _wrong(f"element {place} of `partitions` is no JSON: {error}") from error
        if len(text) > MAX_ITEM:
            raise _wrong(f"element {place} of `partitions` takes {len(text)} bytes, more than {MAX_ITEM}")
        found.append((name, text.decode()))
    return found


def _name(place: int, item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, bool | int | float):
        return orjson.dumps(item).decode()
    if isinstance(item, Mapping):
        for field in NAMED_BY:
            named = item.get(field)
            if isinstance(named, str | int) and not isinstance(named, bool):
                return str(named)
        fields = ", ".join(f"`{field}`" for field in NAMED_BY)
        raise _wrong(f"element {place} of `partitions` has no name: give it one of the fields {fields}")
    raise _wrong(f"element {place} of `partitions` is {_kind(item)}, which has no name: use texts, numbers or maps")


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _wrong(said: str) -> TaskFailed:
    return TaskFailed(said, "partitions", retryable=False)


def required_of(task: TaskDef, total: int) -> int:
    """Return how many of the slices must succeed."""
    require = task.require
    if require is None:
        return total
    if isinstance(require, float):
        return math.ceil(require * total - 1e-9)
    return min(require, total)


def output_of(slices: Sequence[TaskRun]) -> str:
    """Return the output of all slices together as JSON text, within its bound."""
    size = 2
    texts = []
    for one in slices:
        text = (one.output or "null") if one.state is TaskState.SUCCEEDED else "null"
        size += len(text) + 1
        if size > MAX_LIST:
            succeeded = sum(other.state is TaskState.SUCCEEDED for other in slices)
            summary = {"summarised": True, "partitions": len(slices), "succeeded": succeeded, "limit_bytes": MAX_LIST}
            return orjson.dumps(summary).decode()
        texts.append(text)
    return f"[{','.join(texts)}]"


def blame(slices: Sequence[TaskRun], required: int) -> str:
    """Return the sentence of a task too few of whose slices succeeded."""
    bad = [one for one in slices if one.state is not TaskState.SUCCEEDED]
    names = ", ".join(one.partition for one in bad[:_BLAMED])
    more = f" and {len(bad) - _BLAMED} more" if len(bad) > _BLAMED else ""
    failed = next((one for one in bad if one.state is TaskState.FAILED), bad[0])
    need = "" if required == len(slices) else f" ({required} had to succeed)"
    first = f"; {failed.partition}: {failed.error}" if failed.error else ""
    return f"{len(bad)} of {len(slices)} partitions did not succeed{need}: {names}{more}{first}"


@dataclass(slots=True)
class Fan:
    """The slices of one task: labels in order, how many have not ended, how many run."""

    labels: list[str] = field(default_factory=list)
    open: int = 0
    running: int = 0


def task_runs(node: TaskRun, slices: Slices, uid: Callable[[str], str]) -> Iterator[TaskRun]:
    """Yield the task runs of a task's slices; `node` is the one that stands for them."""
    for partition, item in slices:
        yield TaskRun(
            uid=uid(TASK_RUN), run=node.run, task=node.task, partition=partition, engine=node.engine, item=item
        )
