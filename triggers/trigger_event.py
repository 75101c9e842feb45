"""The TriggerEvent: the durable fact that a trigger fired, with its causing events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerEvent:
    """A trigger fired. `span` is the traceparent of the `trigger {pipeline}` span: the run's creation context."""

    uid: str
    trigger: str
    version: str
    at: int
    events: Sequence[str]  # uids of the causing events, in order
    pipeline: str
    key: str
    params: Mapping[str, Any] = field(default_factory=dict)
    partition: str | None = None
    lane: str | None = None
    span: str | None = None
    config_hash: str = ""
