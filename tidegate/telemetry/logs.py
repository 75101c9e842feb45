"""Logging: stdlib records become one line each, JSON for machines or plain text for terminals, without secrets.

A message is a sentence for people; `extra={"action": "…", …}` are the fields for machines. `trace_id` and `span_id`
come from `extra` (`trace_id`, `span_id` or a whole `traceparent`), else from the context variable `current_trace`.
Text from outside is hostile: control characters are escaped in both formats, so that nothing can forge a line or
drive a terminal, long fields are capped, and registered secret values are masked last, after arguments and tracebacks
were put in.
"""

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import orjson

from sensors.w3c import parse_traceparent
from tidegate.telemetry.redaction import Redactor

MAX_MESSAGE = 8_192
MAX_FIELD = 2_048
MAX_FIELDS = 32
MAX_TRACEBACK = 16_384

Format = Literal["json", "text", "auto"]

current_trace: ContextVar[str | None] = ContextVar("current_trace", default=None)
"""The traceparent of the work in hand: log lines of the task that set it carry its ids."""

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}
_ESCAPES = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x061C,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
    )
}
_ESCAPES.update({0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"})
_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}


def escaped(text: str) -> str:
    """Make control, direction and separator characters visible; lone surrogates too."""
    return text.translate(_ESCAPES).encode(errors="backslashreplace").decode()


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time level logger message`, then `action`, trace ids, other fields and `error`."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._mask = redactor.mask

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _capped(self._mask(_message(record)), MAX_MESSAGE),
        }
        for key, value in _fields(record, self._mask).items():
            line.setdefault(key, value)
        error = _traceback(self, record, self._mask)
        if error:
            line["error"] = error
        shown = {key: _encodable(value) if isinstance(value, str) else value for key, value in line.items()}
        return orjson.dumps(shown).decode()


class TextFormatter(logging.Formatter):
    """One line for a person: time, level, message, then `key=value`; a traceback follows, indented."""

    def __init__(self, redactor: Redactor, *, colour: bool = False) -> None:
        super().__init__()
        self._mask = redactor.mask
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = {key: value for key, value in _fields(record, self._mask).items() if key not in ("action", "span_id")}
        tail = "".join(f" {key}={value}" for key, value in fields.items())
        text = escaped(_capped(self._mask(_message(record)), MAX_MESSAGE) + tail)
        error = _traceback(self, record, self._mask)
        if error:
            text += "".join(f"\n    {escaped(line)}" for line in error.splitlines())
        start = _COLOURS.get(record.levelname, "") if self._colour else ""
        return f"{time} {start}{record.levelname.lower():<8}{chr(27) + '[0m' if start else ''} {text}"


def setup_logging(
    format: Format = "auto", level: str = "INFO", *, redactor: Redactor | None = None, stream: TextIO | None = None
) -> Redactor:
    """Send all logging of this process to one stream (standard error), and return the redactor that guards it.

    `auto` is `text` on a terminal and `json` elsewhere. Raises ValueError for a level that does not exist.
    """
    target = sys.stderr if stream is None else stream
    guard = redactor or Redactor()
    names = logging.getLevelNamesMapping()
    if level.upper() not in names:
        raise ValueError(f"the log level is {level!r}; write one of debug, info, warning, error, critical")
    terminal = target.isatty()
    handler = logging.StreamHandler(target)
    if format == "json" or (format == "auto" and not terminal):
        handler.setFormatter(JsonFormatter(guard))
    else:
        handler.setFormatter(TextFormatter(guard, colour=terminal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(names[level.upper()])
    logging.captureWarnings(True)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(noisy)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("azure").setLevel(max(logging.WARNING, root.level))  # tells of every request otherwise
    for said_again in ("aiokafka", "aiormq", "aio_pika"):  # each failed attempt: the sensor's health says it once
        logging.getLogger(said_again).setLevel(logging.CRITICAL if root.level > logging.DEBUG else logging.DEBUG)
    return guard


def _message(record: logging.LogRecord) -> str:
    """Put the arguments in; arguments that do not fit are shown beside the message instead of failing the caller."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a wrong log call must not break the work
        return f"{record.msg} {record.args!r}"


def _fields(record: logging.LogRecord, mask: Callable[[str], str]) -> dict[str, Any]:
    """Return what `extra` gave, masked, then capped (a cap must not cut a secret in two), with the trace ids first."""
    given = {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}
    context = parse_traceparent(_text_or_none(given.pop("traceparent", None)) or current_trace.get())
    if context is not None:
        given = {"trace_id": context.trace_id, "span_id": context.span_id} | given
    return {_capped(key, 128): _plain(value, mask) for key, value in list(given.items())[:MAX_FIELDS]}


def _plain(value: object, mask: Callable[[str], str]) -> Any:
    """Return a value that JSON can hold: numbers and booleans as they are, all else as capped text."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    try:
        return _capped(mask(str(value)), MAX_FIELD)
    except Exception:  # noqa: BLE001 - an object that cannot say what it is
        return f"<{type(value).__name__}>"


def _encodable(text: str) -> str:
    """Escape what JSON would let through and a terminal would obey; JSON itself escapes the C0 controls."""
    if text.isascii() and "\x7f" not in text:
        return text
    return text.translate(_WIDE).encode(errors="backslashreplace").decode()


_WIDE = {code: escape for code, escape in _ESCAPES.items() if code >= 0x7F}


def _capped(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord, mask: Callable[[str], str]) -> str:
    """Return the traceback, its end if it is long: there stands what happened."""
    if not record.exc_info or record.exc_info == (None, None, None):
        return ""
    text = mask(formatter.formatException(record.exc_info))
    return text if len(text) <= MAX_TRACEBACK else f"…{text[-MAX_TRACEBACK:]}"


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
