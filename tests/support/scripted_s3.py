"""A server that answers as a test says, where no real one can be brought to: over real HTTP, for the real SDK.

In flow requests, kept in `asked`; out flow the answers of the script in their order, then those of `otherwise`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from aiohttp import web

_NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `cut` closes the connection after half of the body; `silent` never answers."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    silent: bool = False


@dataclass(frozen=True)
class Request:
    """A request as it came. `query` keeps the last value of each name."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str


Otherwise = Callable[[Request], Answer]


def error(
    code: str, status: int = 400, message: str = "", headers: Mapping[str, str] | None = None, **more: str
) -> Answer:
    """Return an error as S3 tells it; `more` are further elements."""
    fields = {"Code": code, "Message": message, **more}
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return Answer(status, f"{_HEAD}<Error>{inner}</Error>", headers or {})


def listing(*keys: str, more: str = "", inner: str = "") -> Answer:
    """Return a page of a listing; `more` is the token of the next one, `inner` more XML."""
    items = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-31T06:00:00.000Z</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
        for key in keys
    )
    end = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return Answer(200, f"{_HEAD}<ListBucketResult {_NS}>{end}{items}{inner}</ListBucketResult>")


def found(size: int = 1, etag: str = "e") -> Answer:
    """Return the answer to a HEAD; its body is only there for its length."""
    headers = {"ETag": f'"{etag}"', "Last-Modified": "Sat, 31 Jan 2026 06:00:00 GMT"}
    return Answer(200, "x" * size, headers)


@dataclass
class ScriptedS3:
    """The server. `script` is used up, one answer a request."""

    url: str = ""
    script: deque[Answer] = field(default_factory=deque)
    otherwise: Otherwise = field(default=lambda _: listing())
    asked: list[Request] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, *answers: Answer) -> None:
        """Set what comes next."""
        self.script.extend(answers)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        body = (await request.read()).decode("utf-8", "replace")
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = Request(request.method, request.path, dict(request.query), headers, body)
        self.asked.append(seen)
        answer = self.script.popleft() if self.script else self.otherwise(seen)
        if answer.silent:
            await self.over.wait()
        if not answer.cut:
            return web.Response(status=answer.status, text=answer.body, headers=answer.headers)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(answer.body)
        await response.prepare(request)
        await response.write(answer.body.encode()[: len(answer.body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response


@asynccontextmanager
async def running_script() -> AsyncIterator[ScriptedS3]:
    """Serve on a free loopback port."""
    made = ScriptedS3()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}"
    try:
        yield made
    finally:
        made.over.set()
        await runner.cleanup()
