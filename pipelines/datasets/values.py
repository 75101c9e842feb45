"""Values that are too large for the ledger, between the tasks of one run: files in the engine's state folder.

In flows what a task returned; out flows its output as JSON: the value itself up to 256 KiB, else a handle
`{"$value": {"path", "format", "of", "rows", "schema"}}`. `load` turns outputs back into what was returned: a frame of
the library that made it (or that the next function asks for), plain JSON values for the rest. Frames are Arrow files,
mapped into memory where they are read; a lazy frame is written as it is computed, whatever its size. A file appears
whole or not at all, and is durable before its handle is.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from pipelines.datasets.written import schema_of

MAX_INLINE = 256 * 1024
HANDLE = "$value"
LAZY = "polars.LazyFrame"
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z
_REMEDY = "return a DataFrame or plain values (numbers, text, lists, dicts), or write it to a file and return its path"


class ValueTrouble(Exception):
    """A value cannot be kept or found; the sentence says why and what to do."""


def values_folder(state: Path, run: str) -> Path:
    """Return the folder of one run's values; remove it with the run."""
    return state / "values" / run


def remove_values(state: Path, run: str) -> None:
    """Forget the values of a run; nothing happens when there are none."""
    shutil.rmtree(values_folder(state, run), ignore_errors=True)


def touch_value(path: Path) -> bool:
    """Say whether the file of a value is there; if so, it counts as young from now on, and so does its folder."""
    try:
        os.utime(path)
        os.utime(path.parent)
    except OSError:
        return path.exists()
    return True


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


def computed(value: Any) -> Any:
    """Return a lazy frame's rows, anything else as it is: what is looked at more than once is computed once."""
    return as_frame(value) if f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}" == LAZY else value


def keep(value: Any, folder: Path, name: str) -> Any:
    """Return the JSON output for `value`, writing a file in `folder` when it is a frame or over 256 KiB."""
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:120]
    handle = _keep_frame(value, folder / f"{stem}.arrow")
    if handle is not None:
        return {HANDLE: handle}
    try:
        data = orjson.dumps(value, option=_OPTIONS)
    except TypeError as error:
        where, found = _culprit(value)
        inside = f"a {type(value).__name__} in which {where} is a" if where else "a"
        raise ValueTrouble(
            f"the task returned {inside} {type(found).__module__}.{type(found).__qualname__}, which cannot be handed "
            f"on ({error}); {_REMEDY}"
        ) from error
    if len(data) <= MAX_INLINE:
        return orjson.loads(data)
    path = folder / f"{stem}.json"
    place(path, lambda temporary: temporary.write_bytes(data))
    return {HANDLE: {"path": str(path), "format": "json", "bytes": len(data)}}


def handle_of(output: Any) -> Mapping[str, Any] | None:
    """Return the handle that an output is, None for a value that stands for itself."""
    if isinstance(output, dict) and len(output) == 1 and isinstance(output.get(HANDLE), dict):
        found: Mapping[str, Any] = output[HANDLE]
        return found
    return None


def handles_in(output: Any) -> list[Mapping[str, Any]]:
    """Return the handles of an output: its own, or those of its elements where it is the list of slices' outputs."""
    parts = output if isinstance(output, list) else [output]
    return [handle for part in parts if (handle := handle_of(part)) is not None]


def moved(output: Any, place_of: Callable[[Mapping[str, Any]], str]) -> Any:
    """Return an output whose handles name the paths that `place_of` gives for them."""
    if isinstance(output, list):
        return [moved(part, place_of) if handle_of(part) is not None else part for part in output]
    handle = handle_of(output)
    return output if handle is None else {HANDLE: {**handle, "path": place_of(handle)}}


def load(output: Any, wanted: str = "") -> Any:
    """Return the value behind an output; of a list, the values behind its elements.

    `wanted` names the frame that the reader asks for, like `polars.LazyFrame`.
    """
    if isinstance(output, list) and handles_in(output):
        return [load(part) if handle_of(part) is not None else part for part in output]
    handle = handle_of(output)
    if handle is None:
        return output
    path = Path(handle["path"])
    try:
        if handle["format"] == "arrow":
            return _load_frame(path, wanted, handle.get("of", "polars"))
        return orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueTrouble(
            f"the value in {path} is gone, or lies on another machine; resume the run, which makes it anew"
        ) from error


def _keep_frame(value: Any, path: Path) -> dict[str, Any] | None:
    """Write a frame in the way of its library; None for what is no frame."""
    library = type(value).__module__.partition(".")[0]
    if library == "polars" and type(value).__name__ == "LazyFrame":
        import polars as pl

        place(path, value.sink_ipc)
        whole = pl.scan_ipc(path)
        kinds = [(name, str(kind)) for name, kind in whole.collect_schema().items()]
        return _handle(path, "polars", whole.select(pl.len()).collect().item(), kinds)
    if library == "pandas" and type(value).__name__ == "DataFrame":
        return _keep_arrow(_pyarrow().Table.from_pandas(value), path, "pandas")
    if library == "pyarrow" and hasattr(value, "schema") and hasattr(value, "__arrow_c_stream__"):
        return _keep_arrow(value, path, "pyarrow")
    frame = as_frame(value)
    if frame is None:
        return None
    place(path, frame.write_ipc)
    return _handle(path, "polars", frame.height, schema_of(frame))


def _keep_arrow(table: Any, path: Path, library: str) -> dict[str, Any]:
    pa = _pyarrow()
    rows = 0

    def write(temporary: Path) -> None:
        nonlocal rows
        reader = pa.RecordBatchReader.from_stream(table)
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                rows += batch.num_rows

    place(path, write)
    return _handle(path, library, rows, [(field.name, str(field.type)) for field in table.schema])


def _handle(path: Path, library: str, rows: int, schema: Any) -> dict[str, Any]:
    return {"path": str(path), "format": "arrow", "of": library, "rows": rows, "schema": [*schema]}


def _load_frame(path: Path, wanted: str, made_by: str) -> Any:
    library, _, name = wanted.partition(".")
    if library not in ("polars", "pyarrow", "pandas"):
        library = made_by
    if library == "polars":
        import polars as pl

        return pl.scan_ipc(path) if name == "LazyFrame" else _mapped(path)
    table = _arrow(path)
    return table.to_pandas() if library == "pandas" else table


def _mapped(path: Path) -> Any:
    """Return a Polars frame over the file's own pages; a copy where Arrow's types do not say all that Polars' do."""
    import polars as pl

    frame = pl.from_arrow(_arrow(path))
    if isinstance(frame, pl.DataFrame) and frame.schema == pl.scan_ipc(path).collect_schema():
        return frame
    return pl.read_ipc(path)


def _arrow(path: Path) -> Any:
    pa = _pyarrow()
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _pyarrow() -> Any:
    import pyarrow as pa  # type: ignore[import-untyped]  # it has no types

    return pa


def _culprit(value: Any, path: str = "") -> tuple[str, Any]:
    """Return where in a value the first thing stands that JSON cannot hold, and the thing."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        try:
            orjson.dumps(item, option=_OPTIONS)
        except TypeError:
            return _culprit(item, f"{path}[{key!r}]")
    return path, value


def place(path: Path, write: Any) -> None:
    """Let a file appear whole and durable under its name: `write` is called with a temporary path beside it."""
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
