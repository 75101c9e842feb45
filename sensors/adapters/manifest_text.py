"""Which files a manifest lists. Pure.

In flow a manifest's bytes, which outsiders wrote; out flow the keys of its files, each once, in key order. What is not
a list of plain paths below the manifest (or in the bucket) is refused with a sentence for the person who wrote it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from sensors.adapters.complete_sets import MAX_MEMBERS
from sensors.adapters.names import MAX_KEY
from sensors.event import storable_text

MAX_BYTES: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

Expression = Callable[[Mapping[str, Any]], Any]


class Unreadable(ValueError):
    """A manifest cannot be used as it is; the sentence says why."""


def listed_keys(raw: bytes, files: Expression | None, base: str, place: str) -> Sequence[str]:
    """Return the keys that a manifest lists.

    `files` takes its JSON (as `body`) and gives the paths; without it each line is one. `base` is the folder that the
    paths are relative to ("" or ending in `/`); `place` is the URL of the bucket, with which a path may begin. Raises
    Unreadable.
    """
    paths = _lines(raw) if files is None else _paths(raw, files)
    if len(paths) > MAX_MEMBERS:
        raise Unreadable(f"it lists {len(paths)} files, {MAX_MEMBERS} are allowed")
    keys = {_key(path, base, place) for path in paths}
    return sorted(keys, key=str.encode)


def _lines(raw: bytes) -> list[str]:
    try:
        text = raw.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 text (byte {error.start})") from error
    lines = [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line.strip()]
    if not lines:
        raise Unreadable("it lists no files")
    return lines


def _paths(raw: bytes, files: Expression) -> list[Any]:
    try:
        body = orjson.loads(raw.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"it is not JSON: {error}") from error
    try:
        paths = files({"body": body})
    except Exception as error:  # the expression's own errors are of a stage above
        raise Unreadable(f"`manifest.files` cannot be evaluated on it: {error}") from error
    if not isinstance(paths, list | tuple):
        raise Unreadable(f"`manifest.files` gives {_kind(paths)} where a list of paths is needed")
    return list(paths)


def _key(path: Any, base: str, place: str) -> str:
    if not isinstance(path, str):
        raise Unreadable(
            f"`manifest.files` gives {_kind(path)} in the list of paths; map it, as in files.map(f, f.path)"
        )
    if not storable_text(path):
        raise Unreadable(f"it lists {_shown(path)}, which no key can be")
    inside = path.removeprefix(f"{place}/")
    if inside != path:
        base, path = "", inside
    elif path.startswith("/") or _SCHEME.match(path):
        raise Unreadable(f"it lists {_shown(path)}, which is no relative path and not in {place}")
    parts = [part for part in path.split("/") if part != "."]
    if ".." in parts:
        raise Unreadable(f"it lists {_shown(path)}, which leads outside")
    key = base + "/".join(parts)
    if "" in parts or not parts:
        raise Unreadable(f"it lists {_shown(path)}, which is no path of a file")
    if len(key.encode()) > MAX_KEY:
        raise Unreadable(f"it lists {_shown(path)}, which is longer than {MAX_KEY} bytes")
    return key


def _shown(path: str) -> str:
    return ascii(path) if len(path) <= 100 else f"{path[:100]!a}…"


def _kind(value: Any) -> str:
    names = {str: "a text", bool: "true or false", int: "a number", float: "a number", dict: "a map", list: "a list"}
    return "nothing" if value is None else names.get(type(value), "something else")
