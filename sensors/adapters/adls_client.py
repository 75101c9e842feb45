"""The connection of an ADLS source: the SDK's clients of one file system, and whom an error concerns.

In flow paths, out flow the SDK's answers. What concerns one file alone (it is gone, it may not be read) is BadPayload
with the path as its position; all else is NotConnected or BackOff, with a sentence that names the cause.
"""

import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from sensors.adapters.azure_account import AzureAccount
from sensors.adapters.azure_errors import code_of, telling, told
from sensors.errors import BackOff, BadPayload, NotConnected, SensorError

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient, BlobServiceClient
    from azure.storage.filedatalake.aio import DataLakeFileClient, FileSystemClient

_FOLDER: Final = "hdi_isfolder"
_LOST: Final = frozenset({"FilesystemNotFound", "ContainerNotFound", "FilesystemBeingDeleted", "ContainerBeingDeleted"})
_NO_SUCH_NAME: Final = frozenset({"InvalidUri", "InvalidResourceName", "OutOfRangeInput", "InvalidInput"})
_CHANGED: Final = frozenset({404, 412})  # gone, another etag
_NO_PARENT: Final = "RenameDestinationParentPathNotFound"


class NoParentError(Exception):
    """The folder of a rename's target is not there."""


class AdlsClient:
    """One file system. `place` and `where` name it for lineage and for sentences.

    `probe` is the folder that `open` lists, since more may be denied.
    """

    def __init__(self, account: AzureAccount, filesystem: str, *, probe: str = "") -> None:
        self.place = f"abfss://{filesystem}@{account.service}"
        self.where = f"file system {filesystem} at {account.host}"
        self.filesystem = filesystem
        self._probe = probe
        self._account = account
        self._stack = AsyncExitStack()
        self._files: FileSystemClient | None = None
        self._blobs: BlobServiceClient | None = None

    async def open(self) -> None:
        """Connect, and prove that the file system is there and may be listed."""
        await self.close()
        try:
            with telling(self._account, self.where):
                lake = await self._stack.enter_async_context(self._account.lake())
                self._blobs = await self._stack.enter_async_context(self._account.blobs())
                self._files = lake.get_file_system_client(self.filesystem)
            await self.list(self._probe, None, 1, recursive=False)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go; never raises."""
        stack, self._stack = self._stack, AsyncExitStack()
        self._files = self._blobs = None
        with contextlib.suppress(Exception):  # what is left of a broken connection is of no interest
            await stack.aclose()

    @property
    def files(self) -> "FileSystemClient":
        """Return the SDK's client of the file system."""
        if self._files is None:
            raise NotConnected(f"{self.where}: not connected")
        return self._files

    def file(self, path: str) -> "DataLakeFileClient":
        """Return the SDK's client of a file."""
        self.check(path)
        return self.files.get_file_client(path)

    def blob(self, path: str) -> "BlobClient":
        """Return the blob SDK's client of a file."""
        self.check(path)
        if self._blobs is None:
            raise NotConnected(f"{self.where}: not connected")
        return self._blobs.get_blob_client(self.filesystem, path)

    def check(self, path: str) -> None:
        """Refuse a path that no file has. Raises BadPayload."""
        if not is_path(path):
            raise self.bad(path, "is no path that a file can have")

    async def list(self, folder: str, token: str | None, size: int, *, recursive: bool) -> tuple[list[Any], str | None]:
        """Return the entries of one page, folders too, and the token of the next; of a folder not there nothing."""
        with telling(self._account, self.where):
            from azure.core.exceptions import HttpResponseError

            found = self.files.get_paths(folder or None, recursive=recursive, max_results=size)
            pages: Any = found.by_page(token)
            try:
                page = await anext(pages, None)
                entries = [item async for item in page] if page is not None else []
            except HttpResponseError as error:
                if error.status_code == 404 and folder and code_of(error) not in _LOST:
                    return [], None
                raise
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise self.senseless() from error
        more = pages.continuation_token or None
        if more is not None and more == token:
            raise NotConnected(f"{self.where}: the listing goes on where it was; is this a Data Lake endpoint?")
        return entries, more

    async def look(self, path: str) -> Any:
        """Return a file's properties; None when there is none, and for a folder."""
        if not is_path(path):
            return None
        with telling(self._account, self.where):
            from azure.core.exceptions import HttpResponseError

            try:
                found = await self.file(path).get_file_properties()
            except HttpResponseError as error:
                code = code_of(error)
                if (error.status_code == 404 and code not in _LOST) or code in _NO_SUCH_NAME:
                    return None
                raise await self._blame(error, path) from error
        return None if (found.metadata or {}).get(_FOLDER, "").lower() == "true" else found

    async def read(self, path: str, start: int, length: int) -> bytes:
        """Read a range; nothing behind the end. Raises BadPayload when the file is gone or may not be read."""
        with telling(self._account, self.where):
            from azure.core.exceptions import HttpResponseError

            try:
                stream = await self.file(path).download_file(offset=start, length=length)
                return await stream.readall()
            except HttpResponseError as error:
                if error.status_code == 416:
                    return b""
                if error.status_code == 404 and code_of(error) not in _LOST:
                    raise self.bad(path, "is not there any more") from error
                raise await self._blame(error, path) from error

    async def act(self, path: str, do: Callable[[], Awaitable[Any]]) -> bool:
        """Do something to a file; False when it is gone or has changed. Raises NoParentError of a rename."""
        with telling(self._account, self.where):
            from azure.core.exceptions import HttpResponseError

            try:
                await do()
            except HttpResponseError as error:
                code = code_of(error)
                if code == _NO_PARENT:
                    raise NoParentError from error
                if error.status_code in _CHANGED and code not in _LOST:
                    return False
                raise await self._blame(error, path) from error
        return True

    async def copy_status(self, path: str) -> str | None:
        """Say how far the last copy to a path is: `pending`, `success`, `failed: …`; None when there is none."""
        with telling(self._account, self.where):
            from azure.core.exceptions import ResourceNotFoundError

            try:
                state = (await self.blob(path).get_blob_properties()).copy
            except ResourceNotFoundError as error:
                if code_of(error) in _LOST:
                    raise
                return None  # somebody took it away again
        failed = state.status not in (None, "pending", "success")
        return f"{state.status}: {state.status_description}" if failed else state.status

    async def make_folder(self, path: str) -> None:
        """Make a folder and those above it, unless it is there."""
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceExistsError, ResourceModifiedError

        with telling(self._account, self.where), contextlib.suppress(ResourceExistsError, ResourceModifiedError):
            await self.files.get_directory_client(path).create_directory(match_condition=MatchConditions.IfMissing)

    async def _blame(self, error: Any, path: str) -> SensorError:
        """Return the error that says why: it may concern one file, or all."""
        why = told(error, self._account, self.where)
        if isinstance(why, BackOff) or not 400 <= (error.status_code or 0) < 500 or error.status_code == 401:
            return why
        try:
            await self.list(self._probe, None, 1, recursive=False)
        except SensorError as broken:
            return broken
        return self.bad(path, str(why).removeprefix(f"{self.where}: "))

    def senseless(self) -> NotConnected:
        """Return the error for an answer that cannot be read."""
        return NotConnected(f"{self.where}: the answer makes no sense; is this a Data Lake endpoint?")

    def bad(self, path: str, what: str) -> BadPayload:
        """Return the error that concerns one file."""
        return BadPayload(f"{self.place}/{path} {what}", position=path)


def is_path(path: str) -> bool:
    """Say whether a file can have this path: on the way `..` would lead elsewhere, and a backslash become a slash."""
    try:
        path.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return "\\" not in path and not any(name in ("", ".", "..") for name in path.split("/"))
