"""Frames between the service and a worker: a four-byte length (big endian) and orjson; a list of shapes.

Service to worker: one job at a time, the list of its mark and the fields of `Job`. Worker to service, in this order per
job: any number of `{"log": text}` and at most one `{"cooperates": true}`, then one of `{"output", "datasets", "checks",
…}`, `{"failed", …}` or `{"stale": true}`. `marked` says whether the mark is to come at the end of both standard files.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HEAD = struct.Struct(">I")
MAX_FRAME = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt of one Python task, as plain JSON values.

    `function` is `module:qualname` (or `file.py:qualname`), found on `base` and `sys_path` first. Arguments come by
    name from `args`, then `upstream`, then `params`. `values` is the folder for large values, `mark` ends the job's
    output on the standard files. `target`, `mode` and `checks` say what is to be done with a returned DataFrame; `how`
    (the fields of `datasets.written.How`) says more than `mode`, and `connection` how the target is reached;
    `connections` are those that its checks name. `inputs` are datasets by the parameters that get their frames: `uri`,
    `connection`, and `dataset`, which is a configured name like that of the target (empty: none). `resumes` is the run
    that this one resumes. Connections hold secrets: a job is neither logged nor stored. `code` is where versions of
    the user's files are kept (empty: the run is bound to none), `deadline` Unix seconds. `slice` are
    the element and the name of a slice, by the parameters that may take them.
    """

    function: str
    base: str
    sys_path: tuple[str, ...] = ()
    args: Mapping[str, Any] = field(default_factory=dict)
    slice: Mapping[str, Any] = field(default_factory=dict)
    upstream: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    run: str
    fence: int
    task: str
    partition: str
    attempt: int
    values: str
    mark: str = ""
    code: str = ""
    pipeline: str = ""
    key: str = ""
    trigger: str | None = None
    event_uids: tuple[str, ...] = ()
    events: tuple[Any, ...] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline: float | None = None
    target: str | None = None
    mode: str = "replace"
    how: Mapping[str, Any] | None = None
    connection: Mapping[str, Any] | None = None
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset: str = ""
    resumes: str = ""
    checks: tuple[Mapping[str, Any], ...] = ()
    connections: Mapping[str, Any] = field(default_factory=dict)
