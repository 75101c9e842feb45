"""What pydantic finds, in sentences for the person who writes YAML. Pure; never shows a value that it is not given."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from config.problems import nearest

# the start of pydantic's error type -> what the value should be, and how it is written
_TYPES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "string_": ("text", "quote it"),
        "int_": ("a whole number", "write it without quotes or a fraction"),
        "float_": ("a number", "write digits"),
        "bool_": ("true or false", "write `true` or `false`"),
        "list_": ("a list", "write `[a, b]`"),
        "tuple_": ("a list", "write `[a, b]`"),
        "set_": ("a list", "write `[a, b]`"),
        "dict_": ("a map", "write `{key: value}`"),
        "mapping_": ("a map", "write `{key: value}`"),
        "model_": ("a map", "write `{key: value}`"),
        "url_": ("a URL", "write it with its scheme, such as https://host/path"),
        "path_": ("a path", "write it as text"),
    },
)


def worded(error: Mapping[str, Any], shown: str) -> tuple[str, str]:
    """Return (message, remedy) for one pydantic error; `shown` is the value as written, empty for secrets."""
    kind: str = error["type"]
    value = shown or "the value"
    context: Mapping[str, Any] = error.get("ctx") or {}
    if kind in {"literal_error", "enum", "union_tag_invalid"}:
        return _choice(error, shown, context)
    if kind == "union_tag_not_found":
        tag = str(context.get("discriminator", "kind")).strip("'")
        return f"`{tag}` is missing", f"add `{tag}:`"
    if kind in {"value_error", "assertion_error"}:
        return _sentence(str(context.get("error") or error["msg"]), value)
    if kind == "string_pattern_mismatch":
        return f"{value} does not have the right form", f"it matches {context.get('pattern')}"
    if kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return f"{value} is out of range", str(error["msg"]).replace("Input should be", "write a number").lower()
    if kind in {"too_short", "string_too_short", "too_long", "string_too_long"}:
        return f"{value} has the wrong length", str(error["msg"])
    for prefix, (what, remedy) in _TYPES.items():
        if kind.startswith(prefix) and kind.endswith(("_type", "_parsing", "_from_float", "_parsing_size")):
            return f"{value} is not {what}", remedy
    return f"{value} does not fit", str(error["msg"])


def _choice(error: Mapping[str, Any], shown: str, context: Mapping[str, Any]) -> tuple[str, str]:
    expected = str(context.get("expected") or context.get("expected_tags") or error["msg"]).replace("'", "`")
    written = str(context.get("tag") or shown.strip("`"))
    near = nearest(written, [word for word in expected.split("`") if word.strip(" ,or")])
    remedy = f"did you mean `{near}`?" if near else f"write {expected}"
    return (f"`{written}` is not known here" if written else "the value is not known here"), remedy


def _sentence(text: str, value: str) -> tuple[str, str]:
    """Split `expected …` and `what is wrong; what would be right` into message and remedy."""
    if text.startswith("expected "):
        return f"{value} does not fit", text.replace("expected ", "write ", 1)
    if text.startswith("write "):
        return f"{value} does not fit", text
    message, separator, remedy = text.partition("; ")
    return (message, remedy) if separator else (text, "")
