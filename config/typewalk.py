"""Walks data along the types of an option model: where secrets lie, and which models rule a place.

Needed before validation, since a validator should see the secret and not the reference to it. Unions are followed into
every arm that the data could mean.
"""

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from config.problems import Path


def secret_paths(kind: Any, data: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the places of texts in `data` that `kind` reads as secrets (SecretStr, SecretBytes)."""
    for place, leaf, value in _walk(kind, data, path):
        if isinstance(value, str) and isinstance(leaf, type) and issubclass(leaf, SecretStr | SecretBytes):
            harmless = getattr(leaf, "harmless", None)  # of a URL that may hold a password, and need not
            if harmless is None or not harmless(value):
                yield place


def models_at(kind: Any, data: Any, path: Path) -> list[type[BaseModel]]:
    """Return the models that rule the map at `path` of `data`; empty when the types say nothing about it."""
    return [
        leaf for place, leaf, _ in _walk(kind, data, ()) if place == path and isinstance(leaf, type) and _is_model(leaf)
    ]


def key_of(name: str, field: FieldInfo) -> str:
    """Return the key under which a field stands in YAML."""
    return field.alias or name


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys that a model knows."""
    return [key_of(name, field) for name, field in model.model_fields.items()]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _walk(kind: Any, data: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    """Yield (place, plain type, value) for every value that the types reach."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _walk(arguments[0], data, path)
    elif hasattr(kind, "__value__"):  # a `type X = …` alias
        yield from _walk(kind.__value__, data, path)
    elif origin in {Union, types.UnionType}:
        for arm in arguments:
            if not _is_model(arm) or _could_be(arm, data):
                yield from _walk(arm, data, path)
    elif _is_model(kind):
        yield path, kind, data
        if isinstance(data, Mapping):
            for name, field in kind.model_fields.items():
                key = key_of(name, field)
                if key in data:
                    yield from _walk(field.annotation, data[key], (*path, key))
    elif isinstance(origin, type) and issubclass(origin, Mapping | Sequence | set | frozenset):
        for step, inner, value in _inside(origin, arguments, data):
            yield from _walk(inner, value, (*path, step))
    elif not isinstance(kind, TypeVar):
        yield path, kind, data


def _inside(origin: type, arguments: tuple[Any, ...], data: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """Yield (step, type, value) of what a list or map holds."""
    if issubclass(origin, Mapping):
        if isinstance(data, Mapping) and len(arguments) == 2:
            yield from ((key, arguments[1], value) for key, value in data.items())
    elif isinstance(data, list | tuple) and arguments:
        fixed = origin is tuple and ... not in arguments
        for index, value in enumerate(data):
            yield index, arguments[min(index, len(arguments) - 1) if fixed else 0], value


def _could_be(model: type[BaseModel], data: Any) -> bool:
    """Say whether the constants of a model allow the data; the arms of a tagged union differ in these."""
    if not isinstance(data, Mapping):
        return False
    for name, field in model.model_fields.items():
        value = data.get(key_of(name, field))
        if get_origin(field.annotation) is Literal and value is not None and value not in get_args(field.annotation):
            return False
    return True
