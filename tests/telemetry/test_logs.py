"""Lines for machines and people, without secrets and without control over the reader."""

import asyncio
import base64
import io
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.telemetry_rows import TRACE, context
from tidegate.telemetry.logs import MAX_FIELD, JsonFormatter, TextFormatter, current_trace, setup_logging
from tidegate.telemetry.redaction import MASK, Redactor

CANARY = 'cänary-"7/+?=\\x'


def record(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("tidegate.test").makeRecord(
        "tidegate.test", logging.WARNING, __file__, 1, message, args, None, extra=extra or None
    )


def as_json(made: logging.LogRecord, *secrets: str) -> dict[str, Any]:
    line = JsonFormatter(Redactor(secrets)).format(made)
    assert "\n" not in line
    parsed: dict[str, Any] = json.loads(line)
    return parsed


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_line_has_time_level_message_and_fields() -> None:
    """A record becomes one JSON object with the action and typed fields."""
    line = as_json(record("sensor %s is back", "github", action="sensor_recovered", n=3, ratio=0.5, ok=True, none=None))

    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "tidegate.test",
        "message": "sensor github is back",
        "action": "sensor_recovered",
        "n": 3,
        "ratio": 0.5,
        "ok": True,
        "none": None,
    }


def test_trace_ids_come_from_extra() -> None:
    """A traceparent in `extra` becomes trace_id and span_id."""
    line = as_json(record("x", traceparent=context(7)))

    assert (line["trace_id"], line["span_id"]) == (TRACE, f"{7:016x}")
    assert "traceparent" not in line


async def test_trace_ids_come_from_the_work_in_hand() -> None:
    """Lines of a task that set the current trace carry it, those of its neighbours do not."""

    async def work(span: int | None) -> dict[str, Any]:
        current_trace.set(None if span is None else context(span))
        await asyncio.sleep(0)
        return as_json(record("x"))

    with_trace, without = await asyncio.gather(work(3), work(None))

    assert with_trace["span_id"] == f"{3:016x}"
    assert "span_id" not in without


@given(st.text(), st.text())
def test_any_text_is_one_line_of_valid_json(message: str, field: str) -> None:
    """Whatever a message or a field holds, a line stays one line and drives no terminal."""
    line = JsonFormatter(Redactor()).format(record("%s", message, field=field))

    json.loads(line)
    assert all(character.isprintable() or character > "\uffff" or ord(character) > 0x9F for character in line)
    assert not any(character in line for character in "\n\r\x1b\x9b\u2028\u202e\u2066")


@given(st.text(), st.text())
def test_any_text_is_one_line_for_people(message: str, field: str) -> None:
    """Escape sequences, line breaks and direction marks are shown, not obeyed."""
    line = TextFormatter(Redactor()).format(record("%s", message, field=field))

    assert not any(character in line for character in "\n\r\x1b\x9b\u2028\u202e\u2066\x00")
    line.encode()


def test_long_fields_are_capped() -> None:
    """A field says how long it was."""
    line = as_json(record("m" * 100_000, field="x" * 100_000))

    assert line["field"] == "x" * MAX_FIELD + "… (100000 characters)"
    assert len(line["message"]) < 10_000


def test_a_wrong_log_call_still_logs() -> None:
    """Arguments that do not fit, objects that cannot be shown and huge numbers do not fail the caller."""

    class Shy:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "two %s %s" in as_json(record("two %s %s", "one"))["message"]
    assert as_json(record("x", it=Shy()))["it"] == "<Shy>"
    assert as_json(record("x", n=10**30))["n"] == str(10**30)


def test_fields_cannot_replace_what_is_ours() -> None:
    """An extra named like a standard key does not forge it."""
    assert as_json(record("x", level="debug", logger="other", time="1970"))["level"] == "warning"


def traceback_with(text: str) -> logging.LogRecord:
    made = record("it failed")
    try:
        raise ValueError(text)
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    return made


@pytest.mark.parametrize(
    "shape",
    [
        CANARY,
        quote(CANARY, safe=""),
        json.dumps(CANARY),
        repr(CANARY),
        f"postgresql://me:{quote(CANARY, safe='')}@host/db",
        base64.b64encode(CANARY.encode()).decode(),
        "Basic " + base64.b64encode(f"user:{'long-enough-secret-canary'}".encode()).decode(),
    ],
)
def test_a_secret_never_reaches_a_line(shape: str) -> None:
    """A registered value is masked in messages, arguments, fields and tracebacks, however it is encoded."""
    redactor = Redactor([CANARY, "long-enough-secret-canary"])
    # What is left of the pair is the encoding of the user's name.
    lost = shape.strip("\"'").removeprefix("Basic ")[8:-8] or CANARY
    for formatter in (JsonFormatter(redactor), TextFormatter(redactor)):
        for made in (record(f"a {shape} b"), record("a %s b", shape), record("x", token=shape), traceback_with(shape)):
            line = formatter.format(made)
            assert MASK in line
            assert lost not in line


def test_a_cap_does_not_cut_a_secret_in_two() -> None:
    """Masking comes before capping, so no half of a secret stays at the edge."""
    line = as_json(record("x", field="a" * (MAX_FIELD - 4) + "canary-secret-value"), "canary-secret-value")

    assert "cana" not in line["field"]


def test_a_secret_of_several_lines_is_masked_line_by_line() -> None:
    """A private key is masked also where only a line of it is logged."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQ\n-----END KEY-----"

    assert "MIIEvQ" not in as_json(record("bad line MIIEvQIBADANBgkqhkiG9w0BAQEF"), key)["message"]


def test_short_values_are_not_searched_for() -> None:
    """A secret like `on` would blank out ordinary words; nothing is masked for it."""
    assert Redactor(["on", ""]).mask("one on one") == "one on one"


def test_later_secrets_count_too() -> None:
    """A secret that is resolved on reload is masked from then on, with those before it."""
    redactor = Redactor(["first-secret"])
    redactor.register("second-secret")

    assert redactor.mask("first-secret second-secret") == f"{MASK} {MASK}"


def test_setup_sends_everything_to_one_stream(root_logger: logging.Logger) -> None:
    """After setup a library's log line is JSON on the stream, masked by the returned redactor."""
    stream = io.StringIO()
    redactor = setup_logging("auto", "info", stream=stream)
    redactor.register("canary-secret")
    logging.getLogger("some.library").info("hello canary-secret")
    logging.getLogger("some.library").debug("not this")

    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == f"hello {MASK}"


def test_terminals_get_text(root_logger: logging.Logger) -> None:
    """On a terminal `auto` is one readable line, with colours for warnings and errors and an indented traceback."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    setup_logging("auto", "info", stream=stream)
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("x").exception("it failed", extra={"sensor": "github", "action": "a"})

    first, *rest = stream.getvalue().splitlines()
    assert "it failed sensor=github" in first
    assert "\x1b[31m" in first
    assert rest[-1] == "    RuntimeError: boom"


def test_an_unknown_level_is_told(root_logger: logging.Logger) -> None:
    """A level that does not exist is refused with those that do."""
    with pytest.raises(ValueError, match="debug, info, warning"):
        setup_logging("json", "loud")
