"""TaskDef: one node of a pipeline, as plain frozen data that can be stored as JSON and read back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and how patiently a failed attempt is repeated, in seconds.

    `attempts` counts retries, not the first try.
    """

    attempts: int = 0
    backoff: float = 2.0
    factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.2  # share of the delay that is random, 0..1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDef:
    """One node. `options` belong to the engine (validated by its model); strings in them may hold `${{ … }}`.

    `needs` are names of tasks of the same pipeline. `upstream` is the rule over them: `all_success`, `all_done` or
    `any_success`. `timeout` is seconds per attempt. `outputs` name datasets (URIs or configured names);
    `inputs` name those that are read, by the name under which a function gets them.
    """

    name: str
    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: Sequence[str] = ()
    upstream: str = "all_success"
    on_failure: str = "stop"  # or "continue": the run goes on, and may succeed, without it
    retries: Retries = field(default_factory=Retries)
    timeout: float = 86_400.0
    outputs: Sequence[str] = ()
    tags: Sequence[str] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
