"""The Data Lake calls of our gateway, done with the official blob SDK on Azurite. See `dfs_gateway`.

A directory is an empty blob with the metadata `hdi_isfolder=true`, as a real account shows it to blob clients. A rename
keeps etag and modification time, as a real one does; Azurite gives copies new ones, so the old are kept here, beside
the etag for which they stand.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobBlock, BlobProperties, ContentSettings
from azure.storage.blob.aio import BlobClient, BlobServiceClient, ContainerClient

FOLDER = {"hdi_isfolder": "true"}
_SETTINGS = ("content_type", "content_encoding", "content_language", "content_disposition", "cache_control")


class DfsError(Exception):
    """An answer with an error's status."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Kept:
    """What a renamed path had before, true as long as Azurite's etag is `real`. Etags are quoted."""

    real: str
    etag: str
    modified: datetime


@dataclass
class Answer:
    """What a call answers."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Dfs:
    """The calls. `query` and `headers` are the request's, names in lower case; paths have no `/` at either end."""

    def __init__(self, service: BlobServiceClient) -> None:
        self._service = service
        self.kept: dict[tuple[str, str], Kept] = {}

    async def list(self, system: str, query: Mapping[str, str]) -> Answer:
        """GET ?resource=filesystem"""
        container = self._service.get_container_client(system)
        folder = query.get("directory", "").strip("/")
        if folder and "continuation" not in query and not _is_folder(await self._look(container, folder)):
            raise DfsError(404, "PathNotFound")
        if "beginfrom" in query:
            raise DfsError(501, "NotImplemented")
        size = min(int(query.get("maxresults", "5000")), 5000)
        prefix = f"{folder}/" if folder else None
        recursive = query.get("recursive", "").lower() == "true"
        listed: Any = container.list_blobs if recursive else container.walk_blobs
        pages = listed(prefix, include=["metadata"], results_per_page=size)
        paths: list[dict[str, str]] = []
        token = _unpacked(query.get("continuation"))
        pager = pages.by_page(token)
        async for blob in await anext(pager):
            # A folder has an entry of its own, besides which it is a prefix of names.
            if isinstance(blob, BlobProperties):
                paths.append(self._entry(system, blob))
        headers = {"content-type": "application/json;charset=utf-8"}
        if pager.continuation_token:
            headers["x-ms-continuation"] = base64.b64encode(pager.continuation_token.encode()).decode()
        return Answer(200, headers, json.dumps({"paths": paths}).encode())

    async def create(self, system: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """PUT ?resource=file|directory"""
        container = self._service.get_container_client(system)
        there = await self._look(container, path)
        wants_folder = query["resource"] == "directory"
        if there is not None:
            if headers.get("if-none-match") == "*":
                raise DfsError(409, "PathAlreadyExists")
            self._require(headers.get("if-match"), system, there)
            if _is_folder(there):
                if not wants_folder:
                    raise DfsError(409, "PathAlreadyExists")
                return self._stamped(201, system, there)
        await self.parents(system, path)
        metadata = _metadata(headers.get("x-ms-properties")) | (FOLDER if wants_folder else {})
        blob = container.get_blob_client(path)
        # An empty list of blocks, not an empty upload: what was appended before and never flushed goes with it.
        await blob.commit_block_list([], metadata=metadata, content_settings=_settings(headers))
        return self._stamped(201, system, await blob.get_blob_properties())

    async def append(self, system: str, path: str, query: Mapping[str, str], body: bytes) -> Answer:
        """PATCH ?action=append"""
        blob = self._service.get_blob_client(system, path)
        await self._file(blob)
        if body:
            await blob.stage_block(_block_id(int(query["position"])), body)
        if query.get("flush", "").lower() == "true":
            return await self.flush(system, path, {"position": str(int(query["position"]) + len(body))}, {})
        return Answer(202)

    async def flush(self, system: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """PATCH ?action=flush: what was appended becomes part of the file."""
        blob = self._service.get_blob_client(system, path)
        known = await self._file(blob)
        self._require(headers.get("if-match"), system, known)
        position = int(query["position"])
        committed, uncommitted = await blob.get_block_list("all")
        if position == known.size and not uncommitted:
            return self._stamped(200, system, known)
        old = [BlobBlock(block.id) for block in committed]
        if known.size and not old:  # written in one piece by a blob client
            await blob.stage_block(_block_id(0), await (await blob.download_blob()).readall())
            old = [BlobBlock(_block_id(0))]
        new = sorted((int(block.id), block.size) for block in uncommitted)
        end = known.size
        for start, size in new:
            if start != end:
                raise DfsError(400, "InvalidFlushPosition")
            end += size
        if end != position:
            raise DfsError(400, "InvalidFlushPosition")
        await blob.commit_block_list(
            [*old, *(BlobBlock(_block_id(start)) for start, _ in new)],
            metadata=known.metadata,
            content_settings=_settings(headers) or known.content_settings,
        )
        return self._stamped(200, system, await blob.get_blob_properties())

    async def delete(self, system: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """DELETE: a file, or a directory with `recursive=true`."""
        container = self._service.get_container_client(system)
        there = await self._look(container, path)
        if there is None:
            raise DfsError(404, "PathNotFound")
        self._require(headers.get("if-match"), system, there)
        below = [blob.name async for blob in container.list_blobs(f"{path}/")] if _is_folder(there) else []
        if below and query.get("recursive", "").lower() != "true":
            raise DfsError(409, "DirectoryNotEmpty")
        for name in [*reversed(below), path]:
            await container.delete_blob(name)
            self.kept.pop((system, name), None)
        return Answer(200)

    async def rename(self, system: str, path: str, origin: tuple[str, str], headers: Mapping[str, str]) -> Answer:
        """PUT with x-ms-rename-source. The caller keeps everybody else out meanwhile."""
        old_system, old = origin
        source, target = self._service.get_container_client(old_system), self._service.get_container_client(system)
        there, before = await self._look(source, old), await self._look(target, path)
        if there is None:
            raise DfsError(404, "SourcePathNotFound")
        self._require(headers.get("x-ms-source-if-match"), old_system, there, "SourceConditionNotMet")
        if f"{path}/".startswith(f"{old}/") and system == old_system:
            if path == old:
                return self._stamped(201, system, there)
            raise DfsError(409, "InvalidRenameSourcePath")
        parent = path.rpartition("/")[0]
        if parent and not _is_folder(await self._look(target, parent)):
            raise DfsError(404, "RenameDestinationParentPathNotFound")
        if before is not None:
            if headers.get("if-none-match") == "*" or _is_folder(before) != _is_folder(there):
                raise DfsError(409, "PathAlreadyExists")
            self._require(headers.get("if-match"), system, before)
            if [blob async for blob in target.list_blobs(f"{path}/", results_per_page=1)]:
                raise DfsError(409, "DirectoryNotEmpty")
        blobs = [there]
        if _is_folder(there):
            blobs += [blob async for blob in source.list_blobs(f"{old}/", include=["metadata"])]
        for blob in blobs:
            name = path + blob.name[len(old) :]
            kept = self.kept.pop((old_system, blob.name), None)
            etag, modified = _shown(blob, kept)
            copy = target.get_blob_client(name)
            await copy.start_copy_from_url(source.get_blob_client(blob.name).url)
            self.kept[system, name] = Kept(_quoted((await copy.get_blob_properties()).etag), etag, modified)
        for blob in reversed(blobs):
            await source.delete_blob(blob.name)
        return self._stamped(201, system, await target.get_blob_client(path).get_blob_properties())

    async def status(self, system: str, path: str) -> Answer:
        """HEAD ?action=getStatus|getAccessControl"""
        there = await self._look(self._service.get_container_client(system), path) if path else None
        if there is None and path:
            raise DfsError(404, "PathNotFound")
        answer = self._stamped(200, system, there) if there is not None else Answer(200)
        kind = "directory" if there is None or _is_folder(there) else "file"
        answer.headers |= {"x-ms-resource-type": kind, "x-ms-owner": "$superuser", "x-ms-group": "$superuser"}
        return answer

    async def parents(self, system: str, path: str) -> None:
        """Make the directories above a path that are not there."""
        container = self._service.get_container_client(system)
        folder = path.rpartition("/")[0]
        while folder:
            there = await self._look(container, folder)
            if there is not None:
                if not _is_folder(there):
                    raise DfsError(409, "PathConflict")
                return
            await container.upload_blob(folder, b"", metadata=FOLDER)
            folder = folder.rpartition("/")[0]

    async def _look(self, container: ContainerClient, path: str) -> BlobProperties | None:
        try:
            return await container.get_blob_client(path).get_blob_properties()
        except ResourceNotFoundError as error:
            if _code(error) == "ContainerNotFound":
                raise
            return None

    async def _file(self, blob: BlobClient) -> BlobProperties:
        known = await blob.get_blob_properties()
        if _is_folder(known):
            raise DfsError(409, "ResourceTypeMismatch")
        return known

    def _require(self, wanted: str | None, system: str, blob: BlobProperties, code: str = "ConditionNotMet") -> None:
        etag, _ = _shown(blob, self.kept.get((system, blob.name)))
        if wanted not in (None, "*") and _quoted(wanted) != etag:
            raise DfsError(412, code)

    def _entry(self, system: str, blob: BlobProperties) -> dict[str, str]:
        etag, modified = _shown(blob, self.kept.get((system, blob.name)))
        entry = {
            "contentLength": str(blob.size),
            "etag": etag.strip('"'),
            "group": "$superuser",
            "lastModified": format_datetime(modified, usegmt=True),
            "name": blob.name,
            "owner": "$superuser",
            "permissions": "rw-r-----",
        }
        return entry | {"isDirectory": "true"} if _is_folder(blob) else entry

    def _stamped(self, status: int, system: str, blob: BlobProperties) -> Answer:
        etag, modified = _shown(blob, self.kept.get((system, blob.name)))
        return Answer(status, {"etag": etag, "last-modified": format_datetime(modified, usegmt=True)})


def answer_of(error: HttpResponseError) -> DfsError:
    """Return what a Data Lake endpoint answers where the blob endpoint answered an error."""
    names = {"ContainerNotFound": "FilesystemNotFound", "BlobNotFound": "PathNotFound"}
    code = _code(error)
    return DfsError(error.status_code or 500, names.get(code, code))


def _code(error: HttpResponseError) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "InternalError")


def _shown(blob: BlobProperties, kept: Kept | None) -> tuple[str, datetime]:
    etag = _quoted(blob.etag)
    return (kept.etag, kept.modified) if kept is not None and kept.real == etag else (etag, blob.last_modified)


def _quoted(etag: str | None) -> str:
    return f'"{(etag or "").strip(chr(34))}"'


def _is_folder(blob: BlobProperties | None) -> bool:
    return blob is not None and (blob.metadata or {}).get("hdi_isfolder") == "true"


def _block_id(position: int) -> str:
    return f"{position:020d}"


def _unpacked(token: str | None) -> str | None:
    try:
        return base64.b64decode(token, validate=True).decode() if token else None
    except ValueError:
        raise DfsError(400, "InvalidQueryParameterValue") from None


def _metadata(properties: str | None) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in (properties or "").split(",") if pair)
    return {name: base64.b64decode(value).decode() for name, _, value in pairs}


def _settings(headers: Mapping[str, str]) -> ContentSettings | None:
    given: dict[str, Any] = {name: headers.get("x-ms-" + name.replace("_", "-")) for name in _SETTINGS}
    return ContentSettings(**given) if any(given.values()) else None
