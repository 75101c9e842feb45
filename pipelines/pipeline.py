"""PipelineDef: a directed acyclic graph of tasks with typed parameters, as plain frozen data.

A run snapshots its definition: `to_json` gives canonical text, `definition_hash` its name, `from_json` reads it back.
What a pipeline does not use is not written, so that its text and name are those that earlier versions gave it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from pipelines.task import Retries, TaskDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """A run parameter. `type` is one of str int float bool date datetime list map any."""

    type: str = "any"
    required: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDef:
    """A pipeline. `concurrency` bounds its runs under way everywhere; `max_tasks` its tasks at once within one run.

    `params` None means: any parameters are taken as they come.
    """

    name: str
    tasks: Sequence[TaskDef]
    params: Mapping[str, Param] | None = None
    concurrency: int = 16
    max_tasks: int = 16
    start_within: float | None = None
    finish_by: str | None = None
    tags: Sequence[str] = field(default_factory=tuple)
    timeout: float | None = None  # seconds from a run's start to its end

    def task(self, name: str) -> TaskDef:
        """Return the task of that name; KeyError when there is none."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise KeyError(name)


def to_json(pipeline: PipelineDef) -> str:
    """Return the definition as canonical JSON text (sorted keys)."""
    raw = asdict(pipeline)
    for name in _LATER_PIPELINE:
        if raw[name] is None:
            del raw[name]
    for task in raw["tasks"]:
        for name, default in _LATER_TASK.items():
            if task[name] == default:
                del task[name]
    return orjson.dumps(raw, option=orjson.OPT_SORT_KEYS).decode()


_LATER_PIPELINE = ("timeout",)
_LATER_TASK: Mapping[str, Any] = MappingProxyType(
    {
        "when": None,
        "partitions": None,
        "per": None,
        "require": None,
        "max_parallel": None,
        "pools": (),
        "retry_on": (),
        "never_retry_on": (),
        "timeout_all": None,
        "inputs": {},
    }
)
_SEQUENCES = ("needs", "outputs", "tags", "pools", "retry_on", "never_retry_on")


def definition_hash(text: str) -> str:
    """Return the name under which a definition's canonical text is stored."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def from_json(text: str) -> PipelineDef:
    """Read a definition back from its canonical text."""
    raw = orjson.loads(text)
    tasks = tuple(
        TaskDef(
            **{
                **task,
                "retries": Retries(**task["retries"]),
                **{name: tuple(task[name]) for name in _SEQUENCES if name in task},
            }
        )
        for task in raw["tasks"]
    )
    params = None if raw["params"] is None else {name: Param(**param) for name, param in raw["params"].items()}
    return PipelineDef(**{**raw, "tasks": tasks, "params": params, "tags": tuple(raw["tags"])})
