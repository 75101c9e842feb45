"""Scopes: which names an expression may read, and of which type.

A name may be qualified (`event.subject`): then only its listed fields exist, and a misspelt one is found at load.
Types are words: `string int double bool timestamp bytes dyn list map`, `texts` (a map of text to text), and with `?`
what may be null.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cel_expr_python import cel

Scope = Mapping[str, str] | Sequence[str]

EVENT_SCOPE: Mapping[str, str] = MappingProxyType(
    {
        "event.uid": "string",
        "event.id": "string",
        "event.source": "string",
        "event.type": "string",
        "event.subject": "string?",
        "event.time": "timestamp?",
        "event.received_at": "timestamp",
        "event.sensor": "string",
        "event.data": "dyn",
        "event.attributes": "texts",
        "event.match": "texts",
        "trigger.name": "string",
        "trigger.version": "string",
        "now": "timestamp",
    }
)
ITEM_SCOPE: Mapping[str, str] = MappingProxyType({**EVENT_SCOPE, "item": "dyn"})
JOIN_SCOPE: Mapping[str, str] = MappingProxyType(
    {
        "key": "string",
        "parts": "dyn",
        "events": "list",
        "missing": "list",
        "since": "timestamp",
        "trigger.name": "string",
        "trigger.version": "string",
        "now": "timestamp",
    }
)
FLOW_SCOPE: Mapping[str, str] = MappingProxyType(
    {name: kind for name, kind in JOIN_SCOPE.items() if name not in ("parts", "missing")}
)
OPENS_SCOPE: Mapping[str, str] = MappingProxyType({"now": "timestamp"})


def names_of(scope: Scope) -> tuple[tuple[str, str], ...]:
    """Return a scope as sorted (name, type) pairs; bare names are `dyn`."""
    pairs = scope.items() if isinstance(scope, Mapping) else ((name, "dyn") for name in scope)
    return tuple(sorted(pairs))


@lru_cache(maxsize=64)
def environments(names: tuple[tuple[str, str], ...]) -> "tuple[cel.Env, cel.Env]":
    """Return the environment that checks expressions of a scope and the one that runs them.

    The types serve the check alone: at run time every variable takes anything, because the runtime has no way to bind a
    null to a typed one.
    """
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_math, ext_optional, ext_strings

    from triggers import functions

    types: dict[str, Any] = {
        "string": cel.Type.STRING,
        "string?": cel.Type("google.protobuf.StringValue"),
        "int": cel.Type.INT,
        "double": cel.Type.DOUBLE,
        "bool": cel.Type.BOOL,
        "bytes": cel.Type.BYTES,
        "timestamp": cel.Type.TIMESTAMP,
        "timestamp?": cel.Type.TIMESTAMP,
        "dyn": cel.Type.DYN,
        "list": cel.Type.List(cel.Type.DYN),
        "map": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "texts": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
    }
    declared = [
        cel.FunctionDecl(
            "day",
            [
                cel.Overload(
                    "day_timestamp_string", cel.Type.STRING, [cel.Type.TIMESTAMP, cel.Type.STRING], impl=functions.day
                )
            ],
        ),
        cel.FunctionDecl(
            "capture",
            [
                cel.Overload(
                    "capture_string_string", cel.Type.STRING, [cel.Type.STRING, cel.Type.STRING], impl=functions.capture
                )
            ],
        ),
    ]

    def environment(variables: dict[str, Any]) -> "cel.Env":
        extensions = [ext_strings.ExtStrings(), ext_math.ExtMath(), ext_optional.ExtOptional()]
        return cel.NewEnv(variables=variables, extensions=extensions, functions=declared)

    return (
        environment({name: types[kind] for name, kind in names}),
        environment({name: cel.Type.DYN for name, _ in names}),
    )
