"""`tidegate kinds`: what can be configured, from the declarations that validate the configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.cli import out
from tidegate.cli.errors import fail

if TYPE_CHECKING:
    from pydantic import BaseModel

_COMMON = ("enabled", "paused", "was", "cursor", "tags")


def gather(plugins: Sequence[Path]) -> list[dict[str, Any]]:
    """Return every kind as plain data: what it is, its name, help, options, and what it emits."""
    from pipelines.checks.registry import KINDS as CHECKS
    from pipelines.errors import DefinitionError
    from pipelines.registry import load_registry as load_engines
    from sensors.registry import PluginError
    from sensors.registry import load_registry as load_sensors
    from sensors.verify import VERIFIERS

    try:
        sensors, engines = load_sensors(plugins), load_engines(plugins)
    except (PluginError, DefinitionError) as error:
        fail(str(error))
    found: list[dict[str, Any]] = [
        {
            "what": "sensor",
            "name": kind.name,
            "help": kind.help,
            "read_by": "one replica at a time" if kind.single else "every replica",
            "options": options_of(kind.options),
            "emits": {
                "types": dict(kind.emits.types),
                "subject": kind.emits.subject,
                "time": kind.emits.time,
                "data": kind.emits.data,
                "attributes": kind.emits.attributes,
                "sample": dict(kind.emits.sample),
            },
        }
        for kind in sensors.values()
    ]
    found += [
        {
            "what": "engine",
            "name": engine.name,
            "help": engine.help,
            "options": options_of(engine.options),
            "example": engine.example,
        }
        for engine in engines.values()
    ]
    found += [
        {
            "what": "check",
            "name": check.name,
            "help": check.help,
            "options": options_of(check.options),
            "example": f"checks: [{{{check.example}}}]" if ":" in check.example else f"checks: [{check.example}]",
        }
        for check in CHECKS.values()
    ]
    found += [
        {
            "what": "verifier",
            "name": verifier.scheme,
            "help": verifier.help,
            "options": options_of(verifier.options),
        }
        for verifier in VERIFIERS
    ]
    return found


def options_of(model: "type[BaseModel]") -> list[dict[str, Any]]:
    """Return a model's options, its own before those that every kind has."""
    schema = model.model_json_schema()
    required = set(schema.get("required", ()))
    rows = [
        {
            "name": name,
            "type": _type(part, schema),
            "required": name in required,
            "default": part.get("default"),
            "help": part.get("description", ""),
        }
        for name, part in schema.get("properties", {}).items()
    ]
    return sorted(rows, key=lambda row: row["name"] in _COMMON)


def _type(part: dict[str, Any], schema: dict[str, Any], depth: int = 0) -> str:
    """Name the type of an option in a few words."""
    if "$ref" in part:
        target = schema.get("$defs", {}).get(part["$ref"].rpartition("/")[2], {})
        return "map" if target.get("type") == "object" or depth > 3 else _type(target, schema, depth + 1)
    for union in ("anyOf", "oneOf"):
        if union in part:
            names = [_type(item, schema, depth + 1) for item in part[union]]
            return " | ".join(dict.fromkeys(name for name in names if name != "null"))
    if "enum" in part:
        return " | ".join(str(value) for value in part["enum"])
    if "const" in part:
        return str(part["const"])
    kinds = part.get("type", "any")
    if isinstance(kinds, list):
        return " | ".join(_type({"type": name}, schema, depth + 1) for name in kinds if name != "null")
    kind = str(kinds)
    if kind == "array" and isinstance(part.get("items"), dict):
        return f"list of {_type(part['items'], schema, depth + 1)}"
    return {"string": "text", "integer": "whole number", "object": "map", "boolean": "true | false"}.get(kind, kind)


def show_all(found: list[dict[str, Any]], *, json: bool) -> None:
    """Print one line for each kind."""
    if json:
        out.as_json({"items": found})
        return
    rows = [(out.words(item["name"], "bold"), out.words(item["what"], "dim"), item["help"]) for item in found]
    out.show(out.table(("!kind", "!what", "help"), rows))


def show_one(found: list[dict[str, Any]], *, json: bool) -> None:
    """Print kinds of one name in full."""
    if json:
        out.as_json({"items": found})
        return
    for item in found:
        out.show(out.line(out.words(item["name"], "bold"), out.words(item["what"], "dim"), item["help"]))
        rows = [
            (
                out.words(f"  {option['name']}", "cyan"),
                option["type"],
                out.words("required", "yellow")
                if option["required"]
                else out.words(_default(option["default"]), "dim"),
                option["help"],
            )
            for option in item["options"]
        ]
        if rows:
            out.show(out.table(("!  option", "type", "default", "help"), rows))
        if "emits" in item:
            _emits(item["emits"])
        if item.get("example"):
            out.show(out.words("example", "dim"))
            from rich.text import Text

            out.show(Text(out.clean(item["example"].rstrip(), lines=True)))


def _default(value: object) -> str:
    return (
        "" if value is None or value in ((), [], {}) else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _emits(emits: dict[str, Any]) -> None:
    import json as encoder

    from rich.text import Text

    out.show(out.words("emits", "dim"))
    out.show(out.facts([(name, said) for name, said in emits["types"].items()]))
    out.show(out.facts([(name, emits[name]) for name in ("subject", "time", "data", "attributes")]))
    out.show(out.words("sample", "dim"))
    out.show(Text(out.clean(encoder.dumps(emits["sample"], indent=2, ensure_ascii=False), lines=True)))
