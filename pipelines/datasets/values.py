"""Values that are too large for the ledger, between the tasks of one run: files in the engine's state folder.

In flows what a task returned; out flows its output as JSON: the value itself up to 256 KiB, else a handle
`{"$value": {"path", "format", "rows", "schema"}}`. `load` turns outputs back into what was returned: a Polars DataFrame
for frames, plain JSON values for the rest. A file appears whole or not at all, and is durable before its handle is.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import orjson

from pipelines.datasets.written import schema_of

MAX_INLINE = 256 * 1024
HANDLE = "$value"
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z


class ValueTrouble(Exception):
    """A value cannot be kept or found; the sentence says why and what to do."""


def values_folder(state: Path, run: str) -> Path:
    """Return the folder of one run's values; remove it with the run."""
    return state / "values" / run


def remove_values(state: Path, run: str) -> None:
    """Forget the values of a run; nothing happens when there are none."""
    shutil.rmtree(values_folder(state, run), ignore_errors=True)


def as_frame(value: Any) -> Any | None:
    """Return a Polars DataFrame for what is a frame (Polars, or anything that speaks Arrow's stream protocol)."""
    module = type(value).__module__.partition(".")[0]
    if module != "polars" and not hasattr(value, "__arrow_c_stream__"):
        return None
    import polars as pl

    if isinstance(value, pl.DataFrame):
        return value
    if isinstance(value, pl.LazyFrame):
        return value.collect()
    if isinstance(value, pl.Series):
        return value.to_frame()
    if hasattr(value, "__arrow_c_stream__"):
        return pl.DataFrame(value)
    return None


def keep(value: Any, folder: Path, name: str) -> Any:
    """Return the JSON output for `value`, writing a file in `folder` when it is a frame or over 256 KiB."""
    frame = as_frame(value)
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:120]
    if frame is not None:
        path = folder / f"{stem}.arrow"
        _place(path, frame.write_ipc)
        return {
            HANDLE: {"path": str(path), "format": "arrow", "rows": frame.height, "schema": [*schema_of(frame)]},
        }
    try:
        data = orjson.dumps(value, option=_OPTIONS)
    except TypeError as error:
        raise ValueTrouble(
            f"the task returned a {type(value).__module__}.{type(value).__qualname__}, which cannot be handed on "
            f"({error}); return a DataFrame or plain values (numbers, text, lists, dicts)"
        ) from error
    if len(data) <= MAX_INLINE:
        return orjson.loads(data)
    path = folder / f"{stem}.json"
    _place(path, lambda temporary: temporary.write_bytes(data))
    return {HANDLE: {"path": str(path), "format": "json", "bytes": len(data)}}


def load(output: Any) -> Any:
    """Return the value behind an output."""
    if not (isinstance(output, dict) and len(output) == 1 and isinstance(output.get(HANDLE), dict)):
        return output
    path = Path(output[HANDLE]["path"])
    try:
        if output[HANDLE]["format"] == "arrow":
            import polars as pl

            return pl.read_ipc(path)
        return orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueTrouble(
            f"the value in {path} is gone, or lies on another machine; resume the run from the task that made it"
        ) from error


def _place(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        fd = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError as error:
        raise ValueTrouble(f"the task's value could not be written to {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
