"""An engine kind: name, task options, constructor and help, declared together; listed in `pipelines.registry`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.datasets.catalog import Catalog
from pipelines.ports import Engine
from sensors.clock import Clock


class EngineOptions(BaseModel):
    """Options of a task on some engine. A kind's model extends it; unknown keys are errors.

    Options that may hold `${{ … }}` are typed as plain JSON values (str, list, dict); the evaluated ones are validated
    again before each attempt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine gets at construction: clock, service name, state folder, where relative paths start, and networks.

    `catalog` knows the configured datasets. `network_allow` are CIDR ranges that outgoing calls may reach although they
    are private. A worker process is replaced after `tasks_per_worker` tasks, or when it keeps more than
    `worker_memory` bytes; a task may use `task_memory` bytes (0: any) unless it says so itself.
    """

    clock: Clock
    service: str
    state: Path
    base: Path
    network_allow: tuple[str, ...] = ()
    workers: int = 2
    tasks_per_worker: int = 10_000
    worker_memory: int = 1 << 30
    task_memory: int = 0
    connections: Mapping[str, Any] = field(default_factory=dict)
    catalog: Catalog = field(default_factory=lambda: Catalog(Path()))


@dataclass(frozen=True, slots=True)
class EngineKind:
    """One kind of engine. `build` starts nothing. `example` is a task as it stands in YAML."""

    name: str
    help: str
    options: type[EngineOptions]
    build: Callable[[EngineSettings], Engine]
    example: str
    api: int = 1


def said_of(error: ValueError) -> str:
    """Return what is wrong with options in one line: each option with its fault."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'options'}: {e['msg']}" for e in error.errors())
    return str(error)
