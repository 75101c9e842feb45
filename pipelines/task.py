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

    `needs` are names of tasks of the same pipeline. `upstream` is the rule over them: `all_success`, `all_done`,
    `any_success` or `N_of` (at least N succeeded). `timeout` is seconds per attempt, `timeout_all` over all attempts
    and the waits between them. `outputs` name datasets (URIs or configured names); `inputs` name those that are read,
    by the name under which a function gets them.

    `when` is CEL: false skips the task. `partitions` fans it out: a list or map of elements, or CEL that gives one;
    `per` names a fanned-out need, for one slice per slice of it. `require` is how many slices must succeed (None: all;
    an int, or a share below 1), `max_parallel` how many run at once. `pools` are limits shared between runs.
    `retry_on` and `never_retry_on` say which failures are repeated: see `pipelines.retry_rules`.
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
    when: str | None = None
    partitions: Any = None
    per: str | None = None
    require: int | float | None = None
    max_parallel: int | None = None
    pools: Sequence[str] = ()
    retry_on: Sequence[str] = ()
    never_retry_on: Sequence[str] = ()
    timeout_all: float | None = None

    @property
    def fans_out(self) -> bool:
        """Say whether the task is carried out once per partition."""
        return self.partitions is not None or self.per is not None
