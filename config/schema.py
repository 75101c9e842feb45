"""JSON Schema of the configuration, for editors: all sections, and every sensor kind and engine with its own options.

Made from the same models that validate, so the two cannot drift apart. Pure: kinds in, one schema (draft 2020-12) out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from config.alerts_section import AlertOptions
from config.cron_triggers import CronOptions
from config.datasets_section import DatasetOptions
from config.kinds import Kinds, by_name
from config.patterns import RunOptions, SourceOptions
from config.pipeline_options import PipelineOptions, TaskOptions
from config.pools_section import PoolOptions
from config.service_section import (
    NAME,
    ConnectionOptions,
    ServiceOptions,
    TelemetryOptions,
)
from config.triggers_section import TriggerOptions
from pipelines.kind import EngineKind
from sensors.kind import SensorKind

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = {"type": "string", "pattern": r"\$\{(env|file):"}  # text that is filled in at load fits anywhere


def json_schema(sensors: Kinds[SensorKind], engines: Kinds[EngineKind]) -> dict[str, Any]:
    """Return the schema of a whole configuration file with these kinds and engines (registries, lists or maps)."""
    sensor_kinds, engine_kinds = by_name(sensors).values(), by_name(engines).values()
    definitions: dict[str, Any] = {}
    sections: list[type[BaseModel]] = [
        ServiceOptions,
        TelemetryOptions,
        AlertOptions,
        ConnectionOptions,
        DatasetOptions,
        TriggerOptions,
        SourceOptions,
        CronOptions,
        RunOptions,
        TaskOptions,
        PipelineOptions,
        PoolOptions,
    ]
    for model in sections:
        _define(definitions, model.__name__, model)
    _one_or_many(definitions["TriggerOptions"], "on", "SourceOptions", "CronOptions")
    _one_or_many(definitions["TriggerOptions"], "run", "RunOptions")
    _one_or_many(definitions["TriggerOptions.OverdueOptions"], "run", "RunOptions")
    for kind in sensor_kinds:
        _define(definitions, f"sensor.{kind.name}", kind.options)
        _tag(definitions[f"sensor.{kind.name}"], "kind", kind.name, kind.help)
    for engine in engine_kinds:
        _define(definitions, f"engine.{engine.name}", engine.options)
        _join(definitions[f"engine.{engine.name}"], definitions["TaskOptions"])
        _tag(definitions[f"engine.{engine.name}"], "engine", engine.name, engine.help)
        definitions[f"single.{engine.name}"] = dict(definitions[f"engine.{engine.name}"])
        _join(definitions[f"single.{engine.name}"], definitions["PipelineOptions"])
    definitions["task"] = _any_of("engine", "engine", [engine.name for engine in engine_kinds])
    definitions["sensor"] = _any_of("kind", "sensor", [kind.name for kind in sensor_kinds])
    definitions["single"] = _any_of("engine", "single", [engine.name for engine in engine_kinds])
    definitions["pipeline"] = _pipeline(definitions)
    return {
        "$schema": DIALECT,
        "title": "Tidegate configuration",
        "type": "object",
        "properties": {
            "service": _ref("ServiceOptions"),
            "telemetry": _ref("TelemetryOptions"),
            "alerts": _named("AlertOptions"),
            "connections": _named("ConnectionOptions"),
            "defaults": {
                "type": "object",
                "properties": {"sensor": {"type": "object"}, "task": _partial(definitions["TaskOptions"])},
                "additionalProperties": False,
            },
            "sensors": _named("sensor"),
            "triggers": _named("TriggerOptions"),
            "datasets": _named("DatasetOptions"),
            "pools": _pools(),
            "pipelines": _named("pipeline"),
        },
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


class _Schema(GenerateJsonSchema):
    """Pydantic's generator; a default that JSON cannot say is left out without a warning."""

    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012 - as the base class has it


def _define(definitions: dict[str, Any], name: str, model: type[BaseModel]) -> None:
    """Add the schema of a model; what it nests gets names of its own under the model's."""
    prefix = f"{name}."
    schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}", schema_generator=_Schema)
    for nested, definition in schema.pop("$defs", {}).items():
        definitions[prefix + nested] = _open(definition)
    definitions[name] = _open(schema)


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """Let `${env:…}` stand where more than plain text is asked for, and `x-…` keys stand in maps."""
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for key, value in properties.items():
            if "none" in value.get("discriminator", {}).get("mapping", ()):
                value["oneOf"] = [*value.get("oneOf", ()), {"const": "none"}]  # `verify: none` is a short form
            if value.get("type") in ("integer", "number", "boolean") or "pattern" in value or "enum" in value:
                rest = {word: value.pop(word) for word in ("title", "description", "default") if word in value}
                properties[key] = {"anyOf": [value, dict(_REFERENCE)], **rest}
        schema["patternProperties"] = {"^x-": {}}
    return schema


def _tag(schema: dict[str, Any], key: str, value: str, text: str) -> None:
    schema["properties"] = (
        {key: {"const": value, "description": text}}
        | schema.get("properties", {})
        | {key: {"const": value, "description": text}}
    )
    schema["required"] = sorted({*schema.get("required", ()), key})


def _join(schema: dict[str, Any], common: Mapping[str, Any]) -> None:
    schema["properties"] = {**common["properties"], **schema.get("properties", {})}
    schema["additionalProperties"] = False


def _any_of(tag: str, prefix: str, names: Sequence[str]) -> dict[str, Any]:
    """Return a choice by the value of `tag`, so that an editor complains about the chosen one only."""
    return {
        "type": "object",
        "required": [tag],
        "properties": {tag: {"enum": sorted(names)}},
        "allOf": [
            {"if": {"properties": {tag: {"const": name}}, "required": [tag]}, "then": _ref(f"{prefix}.{name}")}
            for name in sorted(names)
        ],
    }


def _pipeline(definitions: Mapping[str, Any]) -> dict[str, Any]:
    common = definitions["PipelineOptions"]["properties"]
    python = {"python": {"type": "string", "pattern": r"^[\w.-]+:[\w.]+$", "description": '"package.module:name"'}}
    tasks = {"tasks": {**_named("task"), "minProperties": 1}}
    closed = {"type": "object", "patternProperties": {"^x-": {}}, "additionalProperties": False}
    return {
        "anyOf": [
            {**closed, "properties": {**python, **common}, "required": ["python"]},
            {**closed, "properties": {**tasks, **common}, "required": ["tasks"]},
            _ref("single"),
        ],
    }


def _one_or_many(schema: dict[str, Any], key: str, *models: str) -> None:
    text = schema["properties"][key].get("description", "")
    arms = [_ref(model) for model in models]
    inside = arms[0] if len(arms) == 1 else {"anyOf": arms}
    schema["properties"][key] = {
        "anyOf": [*arms, {"type": "array", "items": inside, "minItems": 1}],
        "description": text,
    }


def _pools() -> dict[str, Any]:
    size = {"type": "integer", "minimum": 1}
    return {**_named("PoolOptions"), "patternProperties": {NAME: {"anyOf": [size, _ref("PoolOptions")]}, "^x-": {}}}


def _partial(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "required"}


def _named(model: str) -> dict[str, Any]:
    return {
        "type": "object",
        "patternProperties": {NAME: _ref(model), "^x-": {}},
        "additionalProperties": False,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}
