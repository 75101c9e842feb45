"""What an HTTP answer means for a task: its output, or the error that says what happens next.

In goes a started answer (status and headers are there, the body is not yet); out comes the output as JSON value, or
`TaskFailed` (a definitive refusal; retryable where a repeat may help), or `Ambiguous` (a gateway's 502/503/504). Bodies
are read up to a cap and no further; what is over it is named in the error, never cut silently.
"""

from collections.abc import Callable, Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import orjson
from yarl import URL

from pipelines.errors import Ambiguous, TaskFailed

MAX_ANSWER = 1024 * 1024
MAX_OUTPUT = 256 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_EXCERPT = 400
_NOT_PROCESSED = frozenset({408, 425, 429})
_UNKNOWN_OUTCOME = frozenset({502, 503, 504})
_DAY = 86_400.0


class Content(Protocol):
    """The body of an answer, in pieces."""

    async def readany(self) -> bytes:
        """Return what has arrived, waiting for something; empty bytes at the end."""
        ...


class Answer(Protocol):
    """An HTTP answer whose head has arrived (aiohttp's has this shape)."""

    status: int

    @property
    def method(self) -> str: ...  # the request's method

    @property
    def url(self) -> URL: ...  # the URL that answered

    @property
    def headers(self) -> Mapping[str, str]: ...  # case does not matter

    @property
    def content_type(self) -> str: ...  # without parameters

    @property
    def content(self) -> Content: ...  # the body

    def close(self) -> None:
        """Drop the connection; the rest of the body is not wanted."""
        ...


async def judge(answer: Answer, expect: Collection[int], output: str, now: int, log: Callable[[str, str], None]) -> Any:
    """Return the output of an expected answer (`expect` empty means 2xx), or raise what the status stands for.

    `output` is one of auto json text none, `now` UTC microseconds; `log` keeps a line where `auto` drops a body.
    """
    status = answer.status
    where = f"{answer.method} {safe_url(answer.url)}"
    if status in expect if expect else 200 <= status < 300:
        return await _keep(answer, output, where, log)
    body, _ = await _read(answer, 4 * _EXCERPT)
    excerpt = body.decode("utf-8", "replace")[:_EXCERPT].strip()
    message = f"{where} answered {status}" + (f": {excerpt}" if excerpt else "")
    wait = retry_after(answer.headers.get("Retry-After"), now)
    if status in _NOT_PROCESSED or (status == 503 and wait is not None):
        raise TaskFailed(message, f"http_{status}", retry_after=wait)
    if status in _UNKNOWN_OUTCOME:
        raise Ambiguous(f"{message} (a gateway's answer: whether the request had an effect is not known)")
    if status in REDIRECTS:
        remedy = "use the final URL, or `redirects: same_host`"
        raise TaskFailed(f"{where} answered {status}, a redirect; {remedy}", "redirect", retryable=False)
    raise TaskFailed(message, f"http_{status}", retryable=status >= 500, retry_after=wait if status >= 500 else None)


async def _keep(answer: Answer, wanted: str, where: str, log: Callable[[str, str], None]) -> Any:
    body, whole = await _read(answer, MAX_ANSWER)
    if wanted == "none":
        return None
    if wanted == "auto":
        return _guess(answer.content_type, body, whole, where, log)
    if not whole:
        limit = f"{MAX_ANSWER // 1024} KiB"
        raise TaskFailed(
            f"{where} answered more than {limit}; ask for less, or set `output: none`", "too_large", retryable=False
        )
    if wanted == "text":
        output: Any = body.decode("utf-8", "replace")
    else:
        try:
            output = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            remedy = "set `output: text` or `output: none`"
            raise TaskFailed(
                f"{where} did not answer JSON ({error}); {remedy}", "bad_answer", retryable=False
            ) from error
    if len(body) > MAX_OUTPUT // 2 and len(orjson.dumps(output)) > MAX_OUTPUT:
        raise TaskFailed(
            f"{where} answered {len(body)} bytes; an output holds {MAX_OUTPUT // 1024} KiB. Set `output: none`, "
            "or let a python task fetch it",
            "too_large",
            retryable=False,
        )
    return output


def _guess(kind: str, body: bytes, whole: bool, where: str, log: Callable[[str, str], None]) -> Any:
    """Return a JSON or text body that fits the ledger; None for what does not, and say so."""
    if not body:
        return None
    json = kind == "application/json" or kind.endswith("+json")
    if not json and not kind.startswith("text/"):
        return None
    if whole:
        try:
            output: Any = orjson.loads(body) if json else body.decode("utf-8", "replace")
        except orjson.JSONDecodeError as error:
            log("engine", f"{where}: the answer calls itself JSON and is not ({error}); it was not kept as output")
            return None
        if len(body) <= MAX_OUTPUT // 2 or len(orjson.dumps(output)) <= MAX_OUTPUT:
            return output
    log("engine", f"{where}: the answer is larger than {MAX_OUTPUT // 1024} KiB and was not kept as output")
    return None


async def _read(answer: Answer, limit: int) -> tuple[bytes, bool]:
    """Read up to `limit` bytes; False when there was more (the connection is then closed, not reused)."""
    chunks: list[bytes] = []
    size = 0
    content = answer.content
    while chunk := await content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            answer.close()
            return b"".join(chunks)[:limit], False
    return (chunks[0] if len(chunks) == 1 else b"".join(chunks)), True


def retry_after(value: str | None, now: int) -> float | None:
    """Read a Retry-After header as seconds (0 to a day); None when there is none that can be read.

    `now` (UTC microseconds) is what a date is counted from.
    """
    if value is None:
        return None
    text = value.strip()
    try:
        if text.isascii() and text.isdigit():
            seconds = float(text)
        else:
            seconds = parsedate_to_datetime(text).timestamp() - now / 1e6
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _DAY)


def safe_url(url: URL) -> str:
    """Return a URL for messages: without user, password, query and fragment, which may hold secrets."""
    if url.is_absolute():
        url = url.with_user(None)
    return str(url.with_query(None).with_fragment(None))
