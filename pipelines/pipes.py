"""Dagster Pipes, the orchestrator's side: a program that calls `open_dagster_pipes()` is spoken to in its own words.

In flow an attempt's context and the lines that the program writes (protocol "0.1", one JSON object per line); out flow
the two bootstrap variables, log lines as they come, and at the end what the program reported: materialisations as
dataset writes, checks, custom messages. Order is the program's own. Nothing here touches a file or a process: whoever
runs the program carries the lines.

A line that is no message, or one of an unknown method, is never lost: it becomes a log line that says so.
"""

import base64
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.errors import TaskFailed
from pipelines.logbook import storable
from pipelines.ports import TaskContext
from pipelines.propagated import TRACE
from pipelines.reported import CHECK, Reported, exception_words

CONTEXT: Final = "DAGSTER_PIPES_CONTEXT"
MESSAGES: Final = "DAGSTER_PIPES_MESSAGES"
VERSION: Final = "0.1"
MAX_LINE: Final = 1_048_576  # bytes of one message
_VERSION_FIELD: Final = "__dagster_pipes_version"
_STREAMS: Final = ("stdout", "stderr")
_EVENTS: Final = 100  # uids of causing events that the context names

Log = Callable[[str, str], None]


class PipesOptions(BaseModel):
    """What a Pipes program is told. `assets` maps its asset keys to datasets (a URI, or null for the key itself).

    Without `assets` the keys are the task's `outputs`, without those the task's name. `extras` come on top of ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    assets: Mapping[str, str | None] = Field(default_factory=dict)
    extras: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        """Take a list of keys for `assets` as well."""
        if isinstance(value, Mapping) and isinstance(value.get("assets"), list | tuple):
            return {**value, "assets": dict.fromkeys(value["assets"])}
        return value


def pipes_options(value: Any) -> Any:
    """Read the option `pipes`: true, false, or a map of PipesOptions."""
    if value is True:
        return PipesOptions()
    return None if value is False else value


def assets_of(options: PipesOptions, context: TaskContext) -> dict[str, str]:
    """Return the asset keys in scope and the dataset that each stands for. Pure."""
    if options.assets:
        return {key: uri or key for key, uri in options.assets.items()}
    return {name: name for name in context.task.outputs or (context.task.name,)}


def context_of(options: PipesOptions, context: TaskContext) -> dict[str, Any]:
    """Return the context data of one attempt as the protocol lays it out. Pure.

    `extras` carry the trace context, the parameters, the OpenLineage parent and, under `tidegate`, who asks.
    """
    run, task_run = context.run, context.task_run
    keys = list(assets_of(options, context))
    partition = task_run.partition or run.partition or None
    extras: dict[str, Any] = {name.lower(): value for name, value in context.environ.items() if name in TRACE}
    openlineage = context.environ.get("OPENLINEAGE_CONTEXT")
    if openlineage is not None:
        extras["openlineage"] = orjson.loads(openlineage)
    extras["params"] = dict(context.params)
    extras["tidegate"] = {
        "run": run.uid,
        "pipeline": run.pipeline,
        "task": task_run.task,
        "attempt": task_run.attempt,
        "key": task_run.engine_key,
        "trigger": run.trigger,
        "trigger_event": run.trigger_event,
        "events": list(run.events[:_EVENTS]),
        "events_in_all": len(run.events),
    }
    extras.update(options.extras)
    return {
        "asset_keys": keys,
        "code_version_by_asset_key": dict.fromkeys(keys),
        "provenance_by_asset_key": dict.fromkeys(keys),
        "partition_key": partition,
        "partition_key_range": None if partition is None else {"start": partition, "end": partition},
        "partition_time_window": None,
        "run_id": run.uid,
        "job_name": run.pipeline,
        "retry_number": max(0, task_run.attempt - 1),
        "extras": extras,
    }


def encode(value: Any) -> str:
    """Return a bootstrap parameter as programs read it: base64 of zlib of JSON."""
    return base64.b64encode(zlib.compress(orjson.dumps(value))).decode()


class PipesInbox:
    """Takes the lines of one attempt's program; `take` and `feed` are called on the loop, `result` once at the end."""

    def __init__(self, assets: Mapping[str, str], log: Log) -> None:
        self.reported = Reported(assets)
        self.opened = False
        self.closed = False
        self.exception: Mapping[str, Any] | None = None
        self._log = log
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> None:
        """Take bytes of a channel that carries messages alone; a line may come in several pieces."""
        self._rest += data
        while (end := self._rest.find(b"\n")) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            if self._skipping:
                self._skipping = False
            else:
                self._line(line)
        if len(self._rest) > MAX_LINE:
            if not self._skipping:
                self._say(f"a message longer than {MAX_LINE} bytes was left out")
            self._skipping = True
            self._rest.clear()

    def end(self) -> None:
        """Take what stands after the last line break."""
        if self._rest and not self._skipping:
            self._line(bytes(self._rest))
        self._rest.clear()

    def take(self, line: str) -> bool:
        """Take a line of a stream that carries prints as well; say whether it was a message."""
        if _VERSION_FIELD not in line:
            return False
        message = _read(line)
        if message is None:
            return False
        self._message(message)
        return True

    def verdict(self) -> TaskFailed | None:
        """Return the failure that the program itself told of, None when there is none. Its exit is judged elsewhere."""
        failed = self.reported.failed_checks()
        if self.exception is not None:
            failure = TaskFailed(f"the program told of an exception: {exception_words(self.exception)}", "exception")
        elif failed:
            failure = TaskFailed("; ".join(failed), CHECK, retryable=False)
        else:
            return None
        return failure

    def tell_of_silence(self) -> None:
        """Say in the log what a person should know of a program that ended well but did not speak to its end."""
        if not self.opened:
            self._say("the program never called open_dagster_pipes(): nothing that it reports can arrive")
        elif not self.closed:
            self._say("the program ended without closing its context: its last messages may be missing")

    def _line(self, line: bytes) -> None:
        if not line.strip():
            return
        message = _read(line)
        if message is None:
            self._say(f"this is no message: {line[:500].decode('utf-8', 'replace')}")
            return
        self._message(message)

    def _message(self, message: Mapping[str, Any]) -> None:
        version, method, params = message.get(_VERSION_FIELD), message.get("method"), message.get("params")
        if version != VERSION:
            self._say(f"a message of protocol {str(version)[:40]!r}; {VERSION!r} is understood, so it may be misread")
        if not isinstance(params, Mapping):
            params = {}
        match method:
            case "opened":
                self.opened = True
            case "closed":
                self.closed = True
                told = params.get("exception")
                self.exception = told if isinstance(told, Mapping) else self.exception
                if self.exception is not None:
                    self._log("log", f"ERROR {exception_words(self.exception, stack=True)}")
            case "log":
                self._log("log", f"{params.get('level', 'INFO')} {params.get('message', '')}")
            case "log_external_stream":
                stream = params.get("stream")
                for text in str(params.get("text", "")).splitlines():
                    self._log(str(stream) if stream in _STREAMS else "log", text)
            case "report_asset_materialization" | "report_asset_check" | "report_custom_message":
                refused = self.reported.take(method, params)
                if refused:
                    self._say(refused)
            case _:
                self._say(f"a message of the unknown method {str(method)[:80]!r} was left aside")

    def _say(self, text: str) -> None:
        self._log("engine", storable(f"dagster pipes: {text}"))


def _read(line: str | bytes) -> dict[str, Any] | None:
    """Return a line as a message, None when it is none. Python's own JSON may hold NaN and lone surrogates."""
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            plain = json.dumps(json.loads(line, parse_constant=_nothing), ensure_ascii=False)
            message = orjson.loads(storable(plain))
        except (ValueError, RecursionError):
            return None
    return message if isinstance(message, dict) and _VERSION_FIELD in message else None


def _nothing(_name: str) -> None:
    """Stand in for NaN and the infinities, which JSON has not."""
