"""A sensor kind: name, options, constructor, help and emitted event shape, declared together.

Built-in kinds stand in the explicit list of `sensors.registry`; plug-ins come through the same door.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from sensors.clock import Clock
from sensors.hosts import Outgoing
from sensors.notice_hub import NoticeHub
from sensors.sensor import PushSensor, Sensor


class SensorOptions(BaseModel):
    """Options that every kind has. A kind's model extends it; unknown keys are errors.

    `templates` are the options whose texts may hold `${{ … }}`: what a secret brings into them is never evaluated.
    `undefaulted` are options of a kind that `defaults.sensor` does not fill in: there they would mean something else.
    """

    templates: ClassVar[frozenset[str]] = frozenset()
    undefaulted: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    paused: Literal["hold", "drop"] | None = None
    was: str | None = None
    cursor: Literal["keep", "reset"] | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SensorContext:
    """What a constructor gets besides its options: name, clock, where relative paths start, and named connections.

    `compile` turns the text of a CEL expression and the names of its scope into a function of that scope's values; it
    raises ValueError for text that is no expression. Expressions live above this stage, so the composition root lends
    it; None where no expressions are offered. `template` does the same for JSON-like values whose texts hold
    `${{ … }}`. `outgoing` is what outgoing calls go by; None: public addresses only, and nobody else asks the hosts.
    `fetch` gets what is at an https address, within bounds and from public addresses only; it raises
    `sensors.ports.Unavailable`, or LookupError when the host says that there is nothing. None where nothing is fetched.
    `notices` passes on what webhooks have stored; None where a sensor is only checked.
    """

    name: str
    service: str
    clock: Clock
    base: Path
    connections: Mapping[str, Any] = field(default_factory=dict)
    compile: Callable[[str, tuple[str, ...]], Callable[[Mapping[str, Any]], Any]] | None = None
    template: Callable[[Any, tuple[str, ...]], Callable[[Mapping[str, Any]], Any]] | None = None
    outgoing: Outgoing | None = None
    fetch: Callable[[str], Awaitable[bytes]] | None = None
    notices: NoticeHub | None = None


@dataclass(frozen=True, slots=True)
class Emits:
    """What the events of a kind look like, in words: shown by `tidegate kinds`. `sample` is an event as JSON data."""

    types: Mapping[str, str]  # type -> when
    subject: str
    time: str
    data: str
    attributes: str
    sample: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SensorKind:
    """One kind of source. `build` never connects. `push` kinds build a PushSensor, others a Sensor.

    `single`: of several replicas only one should read such a source at a time. Not for sources that share themselves
    out (queues, consumer groups), nor for those that differ from machine to machine.
    """

    name: str
    help: str
    options: type[SensorOptions]
    build: Callable[[Any, SensorContext], Sensor | PushSensor]
    emits: Emits
    push: bool = False
    single: bool = False
    api: int = 1
