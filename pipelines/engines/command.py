"""The `command` engine: a task is a program with its arguments, never a shell line.

In flow argv, environment and standard input; out flow log lines as the program prints them, and at its end the output
that `output` asks for. The program sees a small, known environment: what it needs to run, what `env` gives, and who it
works for (`TIDEGATE_RUN`, `TIDEGATE_TASK`, `TIDEGATE_ATTEMPT`, `TIDEGATE_KEY`, and the trace context). It runs in a
session of its own; with its end, its time-out (SIGTERM, then SIGKILL), its cancellation or the service's end, its
whole process group ends. With `pipes` it is told and heard in the words of Dagster Pipes as well.
"""

import asyncio
import contextlib
import errno
import itertools
import os
import signal
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field, field_validator

from pipelines.capture import MAX_OUTPUT, Capture
from pipelines.datasets.naming import namer
from pipelines.errors import TaskFailed, TaskTimedOut
from pipelines.kind import EngineKind, EngineOptions, EngineSettings, said_of
from pipelines.pipes import PipesOptions, pipes_options
from pipelines.pipes_files import PipesFolder, clear_orphans
from pipelines.pipes_verdict import with_reports
from pipelines.ports import TaskContext, TaskResult
from pipelines.propagated import with_attempt
from pipelines.workers.output import LinePipe, read_lines
from pipelines.workers.wards import Exit, SpawnRefused, Ward, Wards
from sensors.units import Size

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
_OUTPUT_WITHIN = 2.0
_DEATH_WITHIN = 10.0
_KEPT = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV"})
_KEPT_PREFIXES = ("LC_", "SSL_CERT_")
_NO_SHELL = "write argv as a list of program and arguments, such as [dbt, run, --select, orders]; no shell reads it"


class CommandOptions(EngineOptions):
    """A program. `cwd` is relative to the base folder; a null in `env` takes a variable away.

    `stdin` is given as text, anything else as JSON. `ok_codes` are the exit codes of success. `output`: `none`, all of
    standard output as `text` or `json`, or `last_line_json`. `memory` is the most that the program itself may have
    resident. `pipes: true` speaks Dagster Pipes to the program: what it reports becomes the task's log, datasets and
    checks and, without another `output`, its output.
    """

    argv: tuple[Any, ...] = Field(min_length=1)
    cwd: str | None = None
    env: Mapping[str, Any] = Field(default_factory=dict)
    stdin: Any = None
    ok_codes: tuple[int, ...] = (0,)
    output: Literal["none", "text", "json", "last_line_json"] = "none"
    memory: Size | None = None
    pipes: Annotated[PipesOptions | None, BeforeValidator(pipes_options)] = None

    @field_validator("argv", mode="before")
    @classmethod
    def _never_a_shell(cls, value: Any) -> Any:
        if isinstance(value, str) and not (value.startswith("${{") and value.endswith("}}")):
            raise ValueError(_NO_SHELL)
        return (value,) if isinstance(value, str) else value

    @field_validator("argv")
    @classmethod
    def _plain(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        for word in value:
            if not isinstance(word, str | int | float):
                raise ValueError(f"argv holds {type(word).__name__}; {_NO_SHELL}")  # noqa: TRY004 - becomes a finding
            if isinstance(word, str) and "\x00" in word:
                raise ValueError("argv holds a NUL, which no program can be given")
        return value


class CommandEngine:
    """Starts programs under a warden that ends them with the service."""

    survives = False
    dedupes = False
    poll_every = 1.0

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._wards: Wards | None = None
        self._runs: dict[str, asyncio.Task[TaskResult]] = {}
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        return

    async def start(self, context: TaskContext) -> str:
        try:
            options = CommandOptions.model_validate(context.options)
            if isinstance(context.options.get("argv"), str):
                raise ValueError(f"argv: {_NO_SHELL}")  # noqa: TRY004 - becomes a failure
            environment = child_environment(os.environ, options.env, context)
        except ValueError as error:
            raise TaskFailed(
                f"the command task's options are wrong: {said_of(error)}", "bad_options", retryable=False
            ) from error
        if self._wards is None:
            self._wards = Wards()
            await asyncio.to_thread(clear_orphans, self._settings.state / "pipes")
        handle = str(next(self._numbers))
        self._runs[handle] = asyncio.get_running_loop().create_task(
            self._speak(self._wards, context, options, environment, handle)
        )
        return handle

    async def find(self, context: TaskContext) -> str | None:
        return None

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        run = self._runs.get(handle)
        if run is None:
            raise TaskFailed("the program is gone with the service that started it", "lost")
        try:
            return await run
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise TaskFailed("the program was stopped", "cancelled", retryable=False) from None
        finally:
            if run.done():
                self._runs.pop(handle, None)

    async def cancel(self, context: TaskContext, handle: str) -> None:
        run = self._runs.pop(handle, None)
        if run is not None:
            run.cancel()
            await asyncio.wait([run])

    async def close(self) -> None:
        runs = list(self._runs.values())
        self._runs.clear()
        wards, self._wards = self._wards, None
        if wards is not None:
            await wards.close()
        for run in runs:
            run.cancel()
        if runs:
            await asyncio.wait(runs, timeout=5)

    async def _speak(
        self, wards: Wards, context: TaskContext, options: CommandOptions, environment: dict[str, str], number: str
    ) -> TaskResult:
        """Run the program; with `pipes`, carry what it is told and what it reports."""
        if options.pipes is None:
            return await self._run(wards, context, options, environment)
        settings = self._settings
        folder = PipesFolder(settings.state.absolute() / "pipes", number, options.pipes, context)
        try:
            environment.update(await folder.open())
            end: TaskResult | TaskFailed
            try:
                end = await self._run(wards, context, options, environment)
            except TaskFailed as failure:
                end = failure
            at = settings.clock.now()
            return with_reports(end, await folder.end(), context, at, namer(settings.catalog, settings.service))
        finally:
            await folder.close()

    async def _run(
        self, wards: Wards, context: TaskContext, options: CommandOptions, environment: Mapping[str, str]
    ) -> TaskResult:
        argv = [word if isinstance(word, str) else orjson.dumps(word).decode() for word in options.argv]
        cwd = self._settings.base.absolute() / (options.cwd or "")
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        into, feed = _standard_input(options.stdin)
        unread = [(out, "stdout"), (err, "stderr")]
        pipes: list[LinePipe] = []
        ward: Ward | None = None
        transport: asyncio.BaseTransport | None = None
        capture = Capture(options.output)
        try:
            try:
                ward = await wards.spawn(argv, environment, cwd, (into, out_end, err_end))
            except SpawnRefused as error:
                raise _not_started(argv, cwd, error) from error
            except OSError as error:
                raise TaskFailed(f"{argv[0]} could not be started: {error}", "no_process") from error
            if options.memory:
                ward.limit(options.memory)
            while unread:
                fd, stream = unread.pop(0)
                tap = capture.take if stream == "stdout" else None
                pipes.append(await read_lines(fd, _named(context, stream), tap))
            if feed is not None:
                transport = await _feed(feed, options.stdin)
                feed = None
            left = context.deadline - self._settings.clock.monotonic()
            try:
                async with asyncio.timeout(None if left == inf else max(0.0, left)):
                    end = await ward.end()
            except TimeoutError:
                await _stop(ward)
                raise TaskTimedOut(f"{argv[0]} took longer than the task's timeout and was stopped") from None
            await _drain(pipes)
            return _result(argv, options, end, capture, pipes[1].last)
        finally:
            if ward is not None and not ward.exited.done():
                await _stop(ward)
            for fd, _ in unread:
                os.close(fd)
            if feed is not None:
                os.close(feed)
            if transport is not None:
                transport.close()
            for pipe in pipes:
                pipe.close()


def child_environment(ours: Mapping[str, str], given: Mapping[str, Any], context: TaskContext) -> dict[str, str]:
    """Return a program's environment: the safe part of ours, then `given`, then who it works for. Pure.

    Stale trace variables are taken out before the context's are put in.
    """
    environment = {k: v for k, v in ours.items() if k in _KEPT or k.startswith(_KEPT_PREFIXES)}
    environment.setdefault("PATH", os.defpath)
    for name, value in given.items():
        if not name or "=" in name or "\x00" in name:
            raise ValueError(f"env: {name!r} cannot be the name of a variable")
        if value is None:
            environment.pop(name, None)
            continue
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if "\x00" in text:
            raise ValueError(f"env: {name} holds a NUL, which no program can be given")
        environment[name] = text
    return with_attempt(environment, context)


def _standard_input(value: Any) -> tuple[int, int | None]:
    """Return the program's standard input and, when there is something to feed, our end of it."""
    if value is None:
        return os.open(os.devnull, os.O_RDONLY), None
    return os.pipe()


async def _feed(fd: int, value: Any) -> asyncio.BaseTransport:
    """Write standard input in the background; a program that does not read it is no error."""
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else orjson.dumps(value)
    pipe = os.fdopen(fd, "wb", 0)
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, pipe)
    transport.write(data)
    transport.write_eof()
    return transport


def _named(context: TaskContext, stream: str) -> Any:
    def line(text: str) -> None:
        context.log(stream, text)

    return line


async def _drain(pipes: Sequence[LinePipe]) -> None:
    """Read what is still in the pipes; what left the process group may hold them open, so not for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_OUTPUT_WITHIN):
            for pipe in pipes:
                await pipe.closed.wait()


async def _stop(ward: Ward) -> None:
    """SIGTERM, a grace, SIGKILL; carries on to the end while being cancelled, then lets the cancellation through."""
    ward.kill(signal.SIGTERM)
    stopping = asyncio.ensure_future(_see_off(ward))
    cancelled = False
    while not stopping.done():
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def _see_off(ward: Ward) -> None:
    _, waiting = await asyncio.wait([ward.exited], timeout=GRACE)
    if waiting:
        ward.kill()
        await asyncio.wait([ward.exited], timeout=_DEATH_WITHIN)


def _not_started(argv: Sequence[str], cwd: Path, error: SpawnRefused) -> TaskFailed:
    if error.errno == errno.ENOENT and error.about == str(cwd):
        message = f"there is no folder {cwd} to run {argv[0]} in; correct `cwd`"
    elif error.errno == errno.ENOENT:
        message = f"there is no program {argv[0]!r}; install it, or give its path (PATH can be set in `env`)"
    elif error.errno == errno.EACCES:
        message = f"{error.about or argv[0]} may not be executed or entered; see its permissions"
    elif error.errno == errno.ENOEXEC:
        message = f"{argv[0]} is no program; a script needs a first line such as #!/usr/bin/env python3"
    elif error.errno == errno.E2BIG:
        message = f"the arguments and environment of {argv[0]} are too large; give large values by `stdin`"
    else:
        message = f"{argv[0]} could not be started: {error}"
        return TaskFailed(message, "no_process")
    return TaskFailed(message, "no_program", retryable=False)


def _result(
    argv: Sequence[str], options: CommandOptions, end: Exit, capture: Capture, last: Sequence[str]
) -> TaskResult:
    """Judge the program's end."""
    if end.code in options.ok_codes:
        try:
            output = capture.value()
            if len(orjson.dumps(output)) > MAX_OUTPUT:
                raise ValueError(f"its output is more than the {MAX_OUTPUT // 1024} KiB that an output holds")
        except ValueError as error:
            failure = TaskFailed(f"{argv[0]} succeeded, but {error}; see `output`", "bad_output", retryable=False)
        else:
            return TaskResult(output=output, cpu_seconds=end.cpu, peak_rss_bytes=end.rss)
    elif end.over:
        failure = TaskFailed(
            f"{argv[0]} used more than its memory limit of {options.memory} bytes and was killed", "memory"
        )
    else:
        words = "\n".join(line for line in last if line.strip())
        message = f"{argv[0]} ended with {end}" + (f"; its last words:\n{words}" if words else "")
        failure = TaskFailed(message, "crashed" if end.code < 0 else "exit_code")
        failure.detail = None if end.code < 0 else f"exit:{end.code}"
    failure.cpu_seconds, failure.peak_rss_bytes = end.cpu, end.rss
    raise failure


KIND = EngineKind(
    name="command",
    help="Runs a program with its arguments (never a shell); its prints are the task's log, its end is the task's.",
    options=CommandOptions,
    build=CommandEngine,
    example="load: {engine: command, argv: [psql, --file, load.sql], env: {PGHOST: db}, output: none}",
)
