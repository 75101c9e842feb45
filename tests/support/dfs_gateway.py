"""A small Data Lake (DFS) gateway of our own before Azurite's blob endpoint, for tests; not Microsoft's.

Azurite has no DFS endpoint, and on one host and port the official SDK sends blob and DFS calls to the same place. The
gateway translates list paths, create, append, flush, rename, delete and get status into blob calls (`dfs_calls`),
behaves there like an account with a hierarchical namespace (directories are entries, renames are atomic and keep etag
and modification time), and passes everything else through byte for byte. It checks signatures of what it translates.

    python -m tests.support.dfs_gateway PORT http://127.0.0.1:BLOB_PORT
"""

import asyncio
import contextlib
import hmac
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import web
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.transport import AioHttpTransport, HttpRequest
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy
from azure.storage.blob.aio import BlobServiceClient
from multidict import CIMultiDict
from yarl import URL

from tests.support.azure import ACCOUNT, KEY, ROOT, Azurite, await_http
from tests.support.dfs_calls import Answer, Dfs, DfsError, answer_of
from tests.support.postgres import free_port

_HOP = {"transfer-encoding", "connection", "keep-alive"}
_SAS = {"sv", "ss", "srt", "sp", "se", "st", "spr", "sip", "sig", "sr", "si"}


class Gate:
    """Many pass at a time, or one alone."""

    def __init__(self) -> None:
        self._inside = 0
        self._change = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Pass beside others."""
        async with self._change:
            await self._change.wait_for(lambda: self._inside >= 0)
            self._inside += 1
        try:
            yield
        finally:
            async with self._change:
                self._inside -= 1
                self._change.notify_all()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Pass when nobody is inside, and keep all others out."""
        async with self._change:
            await self._change.wait_for(lambda: self._inside == 0)
            self._inside = -1
        try:
            yield
        finally:
            async with self._change:
                self._inside = 0
                self._change.notify_all()


class Gateway:
    """One request after another: translated, or passed through."""

    def __init__(self, blob: str) -> None:
        self._blob = blob
        self._gate = Gate()
        self._stack = contextlib.AsyncExitStack()
        self._http: aiohttp.ClientSession
        self._dfs: Dfs
        self._signer: Any = SharedKeyCredentialPolicy(ACCOUNT, KEY)  # type: ignore[no-untyped-call]
        self._transport = AioHttpTransport()  # only its type counts
        self._sas = generate_account_sas(
            ACCOUNT,
            KEY,
            ResourceTypes(service=True, container=True, object=True),
            AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True, update=True),
            datetime.now(UTC) + timedelta(days=1),
        )

    async def start(self, _app: web.Application) -> None:
        """Make the clients."""
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        service = BlobServiceClient(f"{self._blob}/{ACCOUNT}", KEY, retry_total=0)
        self._dfs = Dfs(await self._stack.enter_async_context(service))

    async def stop(self, _app: web.Application) -> None:
        """Let go."""
        await self._stack.aclose()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        body = await request.read()
        try:
            if "x-ms-rename-source" in request.headers:
                await self._authentic(request)
                async with self._gate.alone():
                    return _response(await self._renamed(request))
            async with self._gate.shared():
                answer = await self._translated(request, body)
                return _response(answer) if answer is not None else await self._passed(request, body)
        except HttpResponseError as error:
            return _refused(answer_of(error))
        except DfsError as error:
            return _refused(error)

    async def _translated(self, request: web.Request, body: bytes) -> Answer | None:
        """Do a Data Lake call; None when it is none."""
        system, path = _place(request.raw_path)
        query = {name.lower(): value for name, value in request.query.items()}
        headers = {name.lower(): value for name, value in request.headers.items()}
        resource, action = query.get("resource"), query.get("action")
        match request.method:
            case "GET" if resource == "filesystem" and not path:
                await self._authentic(request)
                return await self._dfs.list(system, query)
            case "PUT" if resource in ("file", "directory"):
                await self._authentic(request)
                return await self._dfs.create(system, path, query, headers)
            case "PATCH" if action == "append":
                await self._authentic(request)
                return await self._dfs.append(system, path, query, body)
            case "PATCH" if action == "flush":
                await self._authentic(request)
                return await self._dfs.flush(system, path, query, headers)
            case "DELETE" if path and "comp" not in query:
                await self._authentic(request)
                return await self._dfs.delete(system, path, query, headers)
            case "HEAD" if action in ("getStatus", "getAccessControl"):
                await self._authentic(request)
                return await self._dfs.status(system, path)
        return None

    async def _renamed(self, request: web.Request) -> Answer:
        system, path = _place(request.raw_path)
        source = urlsplit(request.headers["x-ms-rename-source"]).path.strip("/")
        old_system, _, old = source.partition("/")
        headers = {name.lower(): value for name, value in request.headers.items()}
        return await self._dfs.rename(system, path, (unquote(old_system), unquote(old)), headers)

    async def _authentic(self, request: web.Request) -> None:
        """Raise DfsError unless the request is signed with the account's key, or its SAS is good for Azurite."""
        system, _ = _place(request.raw_path)
        given = request.headers.get("Authorization", "")
        if given:
            headers = {name.lower(): value for name, value in request.headers.items()}
            path, mark, query = request.raw_path.partition("?")
            # The signer would cut the path at a `;` that aiohttp has decoded, and decodes it itself for aiohttp.
            signed = HttpRequest(request.method, path.replace(";", "%3B") + mark + query, headers)
            self._signer.on_request(PipelineRequest(signed, cast("Any", SimpleNamespace(transport=self._transport))))
            if not hmac.compare_digest(signed.headers["Authorization"], given):
                raise DfsError(403, "AuthenticationFailed")
            return
        sas = "&".join(part for part in request.rel_url.raw_query_string.split("&") if part.partition("=")[0] in _SAS)
        listing = request.method == "GET"
        place, ask = (system, "restype=container&comp=list&maxresults=1&") if listing else (_tail(request.raw_path), "")
        url = URL(f"{self._blob}/{ACCOUNT}/{place}?{ask}{sas}", encoded=True)
        async with self._http.request("GET" if listing else "HEAD", url) as answer:
            if answer.status in (401, 403):
                raise DfsError(answer.status, answer.headers.get("x-ms-error-code", "AuthenticationFailed"))

    async def _passed(self, request: web.Request, body: bytes) -> web.Response:
        """Pass a request through. Only where a rename has kept an etag, it is exchanged on the way."""
        system, path = _place(request.raw_path)
        kept = self._dfs.kept.get((system, path))
        raw, headers = request.raw_path, CIMultiDict(request.headers)
        changed = False
        if kept is not None and headers.get("If-Match") == kept.etag:
            headers["If-Match"], changed = kept.real, True
        if "x-ms-copy-source" in headers:
            old = self._dfs.kept.get(_place(urlsplit(headers["x-ms-copy-source"]).path))
            if old is not None and headers.get("x-ms-source-if-match") == old.etag:
                headers["x-ms-source-if-match"], changed = old.real, True
        if changed and (headers.pop("Authorization", None) is not None):  # sign anew
            raw += ("&" if "?" in raw else "?") + self._sas
        url = URL(self._blob + raw, encoded=True)
        skip = ("Content-Type", "Accept-Encoding", "User-Agent", "Accept")
        async with self._http.request(
            request.method, url, headers=headers, data=body, skip_auto_headers=skip, allow_redirects=False
        ) as answer:
            content = await answer.read()
            told = CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in _HOP)
            if kept is not None and told.get("ETag") == kept.real and request.method in ("GET", "HEAD"):
                told["ETag"], told["Last-Modified"] = kept.etag, format_datetime(kept.modified, usegmt=True)
            if request.method == "PUT" and path and answer.status in (201, 202):  # a blob was written or copied
                await self._dfs.parents(system, path)
            return web.Response(status=answer.status, reason=answer.reason, headers=told, body=content)


def _tail(raw: str) -> str:
    """Return what follows the account's name, as it was sent."""
    return raw.partition("?")[0].lstrip("/").partition("/")[2]


def _place(raw: str) -> tuple[str, str]:
    """Return file system and path."""
    system, _, path = _tail(raw).partition("/")
    return unquote(system), unquote(path).strip("/")


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


def _refused(error: DfsError) -> web.Response:
    body = {"error": {"code": error.code, "message": f"{error.code} (told by the test gateway)."}}
    headers = {"x-ms-error-code": error.code, "content-type": "application/json;charset=utf-8"}
    return web.Response(status=error.status, headers=headers, body=json.dumps(body).encode())


def make_app(blob: str) -> web.Application:
    """Make the server before a blob endpoint (`http://127.0.0.1:PORT`)."""
    gateway = Gateway(blob)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", gateway.handle)
    app.on_startup.append(gateway.start)
    app.on_cleanup.append(gateway.stop)
    return app


@contextlib.contextmanager
def running_gateway(azurite: Azurite) -> Iterator[Azurite]:
    """Start a gateway as a process before Azurite; stop it by pid. The account that is given speaks Data Lake too."""
    port = free_port()
    split = urlsplit(azurite.blob_url)
    command = [sys.executable, "-m", "tests.support.dfs_gateway", str(port), f"{split.scheme}://{split.netloc}"]
    with tempfile.TemporaryDirectory(prefix="tidegate-dfs-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        try:
            await_http(f"http://127.0.0.1:{port}/", process, log)
            yield replace(azurite, blob_url=f"http://127.0.0.1:{port}/{ACCOUNT}")
        finally:
            process.terminate()
            process.wait(10)
            if words := log.read_text():  # an error of the gateway itself
                print(words[-4000:], file=sys.stderr)


if __name__ == "__main__":
    web.run_app(make_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), print=lambda *_: None)
