"""Kinds and loaders for the tests of configuration: the real ones, and small ones whose options are known exactly."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from config.pipelines_section import LoadPipelines
from pipelines.errors import DefinitionError
from pipelines.kind import EngineKind, EngineOptions, EngineSettings
from pipelines.pipeline import Param, PipelineDef
from pipelines.ports import Engine
from pipelines.task import TaskDef
from sensors.batch import Batch, Cursor
from sensors.kind import Emits, SensorContext, SensorKind, SensorOptions
from sensors.ports import Lookup, Prefilter
from sensors.sensor import Sensor
from sensors.units import Duration, Start


class Token(BaseModel):
    """One arm of a tagged union."""

    model_config = ConfigDict(extra="forbid")

    scheme: Literal["token"]
    secret: SecretStr | tuple[SecretStr, ...]


class Nothing(BaseModel):
    """The other arm."""

    model_config = ConfigDict(extra="forbid")

    scheme: Literal["none"]


class TideOptions(SensorOptions):
    """Options of the sample sensor."""

    path: str = Field(description="where to look")
    start: Start
    every: Duration = 60.0
    verify: Token | Nothing | None = Field(default=None, discriminator="scheme")
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    expression: str | None = None


class CallOptions(EngineOptions):
    """Options of the sample engine."""

    url: str
    headers: Mapping[str, Any] = Field(default_factory=dict)
    token: SecretStr | None = None
    attempts: int = 1


def _build(options: TideOptions, context: SensorContext) -> Sensor:
    if options.path == "impossible":
        raise ValueError("the path is impossible; choose another")
    if options.expression is not None and context.compile is not None:
        context.compile(options.expression, ("body",))
    return _NotAsked()


def _engine(settings: EngineSettings) -> Engine:
    raise AssertionError("checking builds no engine")


class _NotAsked:
    """A sensor that the tests of configuration never connect."""

    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        raise NotImplementedError

    async def read(self) -> Batch:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


TIDE = SensorKind(
    name="tide",
    help="watches the tide",
    options=TideOptions,
    build=_build,
    emits=Emits(
        types={"tide.high": "at high tide", "tide.low": "at low tide"},
        subject="the gauge",
        time="of the tide",
        data="the level",
        attributes="none",
        sample={},
    ),
)
CALL = EngineKind(name="call", help="calls somebody", options=CallOptions, build=_engine, example="engine: call")


def sample_kinds() -> dict[str, Any]:
    """Return the arguments of `load_config` for the sample kinds."""
    return {"sensors": [TIDE], "engines": [CALL]}


def real_kinds() -> dict[str, Any]:
    """Return the arguments of `load_config` for the kinds that come with the service."""
    from pipelines.registry import load_registry as engines
    from sensors.registry import load_registry as sensors

    return {"sensors": sensors([], installed=[]), "engines": engines([], others=[])}


def no_pipelines(references: Sequence[str], base: Path) -> Mapping[str, PipelineDef | DefinitionError]:
    """Stand in for the loader of Python pipelines: every reference leads nowhere."""
    hint = "see that it lies beside the configuration"
    return {name: DefinitionError(f"the module of {name} cannot be imported", "", hint) for name in references}


def pipeline_of(*tasks: str, params: Mapping[str, Param] | None = None) -> LoadPipelines:
    """Return a loader that gives a pipeline of these tasks for every reference."""

    def load(references: Sequence[str], base: Path) -> Mapping[str, PipelineDef | DefinitionError]:
        nodes = tuple(TaskDef(name=name, engine="call", options={"url": "http://x.test"}) for name in tasks)
        return {name: PipelineDef(name="loaded", tasks=nodes, params=params) for name in references}

    return load
