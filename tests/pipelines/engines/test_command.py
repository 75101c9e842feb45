import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.command import KIND, CommandEngine, CommandOptions, child_environment
from pipelines.errors import TaskFailed, TaskTimedOut
from pipelines.ports import TaskContext, TaskResult
from tests.support.engine_contexts import TRACEPARENT, make_context, make_settings
from tests.support.processes import gone, read_pid

PYTHON = [sys.executable, "-I", "-S", "-c"]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[CommandEngine]:
    engine = KIND.build(make_settings(folder))
    assert isinstance(engine, CommandEngine)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def run(engine: CommandEngine, context: TaskContext) -> TaskResult:
    result = await engine.poll(context, await engine.start(context))
    assert result is not None
    return result


def program(code: str, *args: Any, **options: Any) -> TaskContext:
    return make_context("command", {"argv": [*PYTHON, code, *args], **options})


async def test_lines_and_usage(tmp_path: Path) -> None:
    """What a program prints becomes log lines with their stream, and its CPU time and peak memory are told."""
    lines: list[tuple[str, str]] = []
    code = "import sys; print('one'); print('two', file=sys.stderr); print('no end', end='')"
    context = make_context("command", {"argv": [*PYTHON, code]}, log=lambda s, t: lines.append((s, t)))
    async with opened(tmp_path) as engine:
        result = await run(engine, context)

    assert [text for stream, text in lines if stream == "stdout"] == ["one", "no end"]
    assert [text for stream, text in lines if stream == "stderr"] == ["two"]
    assert result.output is None
    assert result.cpu_seconds is not None
    assert result.cpu_seconds > 0
    assert result.peak_rss_bytes is not None
    assert 1_000_000 < result.peak_rss_bytes < 100_000_000


async def test_arguments_are_never_read_by_a_shell(tmp_path: Path) -> None:
    """Hostile arguments arrive as they are."""
    hostile = ["; touch pwned", "$(id)", "a b", "'", "*", "\n", "--", 7, True]
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    async with opened(tmp_path) as engine:
        result = await run(engine, program(code, *hostile, output="json"))

    assert result.output == [*hostile[:-2], "7", "true"]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("code", "output", "expected"),
    [
        pytest.param("print('a'); print('b')", "text", "a\nb\n", id="text"),
        pytest.param("print('{\"a\": [1]}')", "json", {"a": [1]}, id="json"),
        pytest.param("print('working'); print('[1]'); print()", "last_line_json", [1], id="last-line"),
        pytest.param("print('x' * 900_000); print('[1]', end='')", "last_line_json", [1], id="last-line-after-much"),
        pytest.param("print('a')", "none", None, id="none"),
    ],
)
async def test_output_modes(tmp_path: Path, code: str, output: str, expected: Any) -> None:
    """Standard output becomes the output as `output` says."""
    async with opened(tmp_path) as engine:
        assert (await run(engine, program(code, output=output))).output == expected


@pytest.mark.parametrize(
    ("code", "output", "word"),
    [
        pytest.param("print('nope')", "json", "is not JSON", id="not-json"),
        pytest.param("print('nope')", "last_line_json", "last line is not JSON", id="last-line-not-json"),
        pytest.param("print('x' * 300_000)", "text", "more than the 256 KiB", id="too-much"),
        pytest.param("print('é' * 150_000)", "text", "more than the 256 KiB", id="too-many-bytes"),
    ],
)
async def test_unusable_output_fails_for_good(tmp_path: Path, code: str, output: str, word: str) -> None:
    """A program that succeeded but whose output cannot be kept fails with the reason and is not repeated."""
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=word) as caught:
            await run(engine, program(code, output=output))

    assert not caught.value.retryable


async def test_exit_codes(tmp_path: Path) -> None:
    """An exit code outside `ok_codes` fails with the last words; one inside succeeds."""
    code = "import sys; print('because', file=sys.stderr); sys.exit(3)"
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match="exit code 3; its last words:\nbecause") as caught:
            await run(engine, program(code))
        assert (caught.value.kind, caught.value.retryable) == ("exit_code", True)
        await run(engine, program(code, ok_codes=[0, 3]))


async def test_death_by_signal_names_the_signal(tmp_path: Path) -> None:
    """A program that a signal killed crashed, and the signal is named."""
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match="SIGSEGV") as caught:
            await run(engine, program("import os; os.kill(os.getpid(), 11)"))

    assert caught.value.kind == "crashed"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        pytest.param({"argv": ["no-such-program-here"]}, "no program", id="program"),
        pytest.param({"argv": ["./plain.txt"]}, "may not be executed", id="not-executable"),
        pytest.param({"argv": ["./text.sh"]}, "is no program", id="no-interpreter"),
        pytest.param({"argv": ["true"], "cwd": "nowhere"}, "no folder", id="cwd"),
        pytest.param({"argv": ["true", "x" * 3_000_000]}, "too large", id="too-large"),
    ],
)
async def test_programs_that_cannot_start(tmp_path: Path, options: dict[str, Any], word: str) -> None:
    """What cannot start fails with what to correct, and is not repeated."""
    (tmp_path / "plain.txt").write_text("text")
    (tmp_path / "text.sh").write_text("text")
    (tmp_path / "text.sh").chmod(0o755)
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=word) as caught:
            await run(engine, make_context("command", options))

    assert (caught.value.kind, caught.value.retryable) == ("no_program", False)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"argv": "rm -rf /"}, id="string"),
        pytest.param({"argv": "${{ params.argv }}"}, id="unevaluated"),
        pytest.param({"argv": []}, id="empty"),
        pytest.param({"argv": [["rm"]]}, id="nested"),
        pytest.param({"argv": ["a\x00b"]}, id="nul"),
        pytest.param({"argv": ["true"], "env": {"A=B": "1"}}, id="env-name"),
        pytest.param({"argv": ["true"], "env": {"A": "a\x00"}}, id="env-nul"),
        pytest.param({"argv": ["true"], "shell": True}, id="unknown"),
    ],
)
async def test_bad_options_start_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    """Options that name no program with arguments are refused before anything starts."""
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed) as caught:
            await engine.start(make_context("command", options))

    assert (caught.value.kind, caught.value.retryable) == ("bad_options", False)


def test_a_string_is_refused_with_the_remedy() -> None:
    """A shell line is refused at load, and the sentence shows the list to write."""
    with pytest.raises(ValueError, match="write argv as a list"):
        CommandOptions.model_validate({"argv": "dbt run"})


def test_environment_is_small_and_fresh() -> None:
    """A program sees the safe part of our environment, its own, its identity, and no stale trace context."""
    ours = {"PATH": "/bin", "LC_ALL": "C", "SECRET": "s", "TRACESTATE": "old", "BAGGAGE": "old"}
    context = make_context("command", {"argv": ["true"]})

    given = {"A": 1, "LC_ALL": None, "TRACESTATE": "forged"}

    assert child_environment(ours, given, context) == {
        "PATH": "/bin",
        "A": "1",
        "TRACEPARENT": TRACEPARENT,
        "TIDEGATE_RUN": context.run.uid,
        "TIDEGATE_TASK": "work",
        "TIDEGATE_ATTEMPT": "1",
        "TIDEGATE_KEY": context.task_run.engine_key,
    }


async def test_the_program_gets_environment_folder_and_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs in `cwd`, reads `stdin`, and sees exactly its environment."""
    monkeypatch.setenv("OUR_SECRET", "s")
    (tmp_path / "sub").mkdir()
    code = "import sys, os, json; print(json.dumps([os.getcwd(), sys.stdin.read(), dict(os.environ)]))"
    async with opened(tmp_path) as engine:
        context = program(code, cwd="sub", stdin={"a": 1}, env={"X": "y"}, output="json")
        folder, given, environment = (await run(engine, context)).output

    assert folder == str(tmp_path / "sub")
    assert given == '{"a":1}'
    assert environment["X"] == "y"
    assert environment["TRACEPARENT"] == TRACEPARENT
    assert "OUR_SECRET" not in environment


async def test_input_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    """A program may end without reading a large standard input."""
    async with opened(tmp_path) as engine:
        await run(engine, program("pass", stdin="x" * 1_000_000))


async def test_timeout_ends_the_whole_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When time is up, a program that ignores SIGTERM is killed after the grace, with its children."""
    monkeypatch.setattr("pipelines.engines.command.GRACE", 0.1)
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0: open('child', 'w').write(str(os.getpid()))\n"
        "open('ready', 'w').write(str(os.getpid()))\n"
        "time.sleep(600)"
    )
    async with opened(tmp_path) as engine:
        context = make_context("command", {"argv": [*PYTHON, code]}, seconds=0.5)
        with pytest.raises(TaskTimedOut):
            await run(engine, context)
        await gone(await read_pid(tmp_path / "child"), await read_pid(tmp_path / "ready"))


async def test_sigterm_lets_a_program_clean_up(tmp_path: Path) -> None:
    """A cancelled program gets SIGTERM first; its poll ends when it has ended."""
    code = (
        "import signal, sys, time\n"
        "def stop(*_):\n    open('cleaned', 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open('ready', 'w').write('1')\n"
        "time.sleep(600)"
    )
    async with opened(tmp_path) as engine:
        context = program(code)
        handle = await engine.start(context)
        poll = asyncio.create_task(engine.poll(context, handle))
        await read_pid(tmp_path / "ready")
        await engine.cancel(context, handle)
        with pytest.raises(TaskFailed) as caught:
            await poll

    assert caught.value.kind == "cancelled"
    assert (tmp_path / "cleaned").exists()


async def test_cancelling_the_poll_stops_the_program(tmp_path: Path) -> None:
    """A poll that is cancelled leaves no program behind."""
    async with opened(tmp_path) as engine:
        context = program("import os, time; open('ready', 'w').write(str(os.getpid())); time.sleep(600)")
        poll = asyncio.create_task(run(engine, context))
        pid = await read_pid(tmp_path / "ready")
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
        await gone(pid)


async def test_background_children_end_with_their_program(tmp_path: Path) -> None:
    """What a program leaves in its group ends with it, and does not hold up the task."""
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n    open('child', 'w').write(str(os.getpid())); time.sleep(600)\n"
        "while not os.path.exists('child') or not open('child').read(): pass"
    )
    async with opened(tmp_path) as engine:
        await run(engine, program(code))
        await gone(await read_pid(tmp_path / "child"))


async def test_close_ends_everything(tmp_path: Path) -> None:
    """Closing the engine ends its programs, also those that left their group."""
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n    os.setsid(); open('child', 'w').write(str(os.getpid())); time.sleep(600)\n"
        "time.sleep(600)"
    )
    async with opened(tmp_path) as engine:
        context = program(code)
        handle = await engine.start(context)
        poll = asyncio.create_task(engine.poll(context, handle))
        pid = await read_pid(tmp_path / "child")
        await engine.close()
        with pytest.raises(TaskFailed):
            await poll
        await gone(pid)


async def test_memory_limit_kills(tmp_path: Path) -> None:
    """A program over its memory limit is killed, and the failure says so."""
    code = "import time; x = bytearray(100_000_000); time.sleep(600)"
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match="memory limit") as caught:
            await run(engine, program(code, memory="50MiB"))

    assert caught.value.kind == "memory"


async def test_long_and_odd_lines(tmp_path: Path) -> None:
    """Long lines are cut into pieces without losing a character; what is no text becomes replacement characters."""
    lines: list[str] = []
    code = "import sys; w = sys.stdout.buffer.write; w(('é' * 30_000 + '\\r\\n').encode()); w(b'\\xff\\n\\n')"
    context = make_context("command", {"argv": [*PYTHON, code]}, log=lambda _, text: lines.append(text))
    async with opened(tmp_path) as engine:
        await run(engine, context)

    assert "".join(lines[:-2]) == "é" * 30_000
    assert max(len(line.encode()) for line in lines) <= 8000
    assert lines[-2:] == ["\ufffd", ""]


async def test_programs_run_beside_each_other(tmp_path: Path) -> None:
    """Many programs at once end with their own results."""
    async with opened(tmp_path) as engine:
        results = await asyncio.gather(
            *(run(engine, make_context("command", {"argv": ["echo", str(n)], "output": "json"})) for n in range(30))
        )

    assert [result.output for result in results] == list(range(30))
    assert os.getpid()
