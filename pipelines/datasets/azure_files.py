"""Files of an Azure Data Lake file system. Publishing is one conditional Put Blob: the account compares and replaces.

The Data Lake calls write a file in steps that readers can see; the blob endpoint of the same account does it at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from pipelines.datasets.places import Moved
from pipelines.datasets.written import TargetUnusable
from sensors.adapters.azure_account import AzureAccount
from sensors.adapters.azure_errors import code_of, told

_GONE: Final = frozenset({"BlobNotFound", "PathNotFound", "ResourceNotFound"})
_MOVED: Final = frozenset({"ConditionNotMet", "BlobAlreadyExists", "TargetConditionNotMet", "PathAlreadyExists"})
_T = TypeVar("_T")


class AzureFiles:
    """The files of one file system, by their paths."""

    def __init__(self, filesystem: str, account: AzureAccount) -> None:
        self._filesystem = filesystem
        self._account = account
        self._runner = asyncio.Runner()

    def shown(self, path: str) -> str:
        return f"abfss://{self._filesystem}@{self._account.service}/{path}"

    def fetch(self, path: str) -> tuple[bytes, str] | None:
        found = self._get(path, None)
        return None if found is None else found[:2]

    def tail(self, path: str, size: int) -> tuple[bytes, str, int] | None:
        return self._get(path, size)

    def put(self, path: str, data: bytes) -> None:
        self._upload(path, data, overwrite=True)

    def swap(self, path: str, data: bytes, tag: str | None) -> None:
        from azure.core import MatchConditions

        condition: dict[str, Any] = {"overwrite": True}
        if tag is None:
            condition |= {"match_condition": MatchConditions.IfMissing}
        else:
            condition |= {"match_condition": MatchConditions.IfNotModified, "etag": tag}
        try:
            self._upload(path, data, **condition)
        except _Refused as error:
            if error.code in _MOVED or error.status in (409, 412) or (tag is not None and error.code in _GONE):
                raise Moved(path) from error
            raise

    def names(self, folder: str) -> Mapping[str, int]:
        async def work(container: Any) -> dict[str, int]:
            found: dict[str, int] = {}
            async for blob in container.list_blobs(name_starts_with=folder):
                if (blob.metadata or {}).get("hdi_isfolder") != "true":
                    found[blob.name] = int(blob.last_modified.timestamp() * 1_000_000)
            return found

        return self._do(work)

    def remove(self, paths: Sequence[str]) -> None:
        async def work(container: Any) -> None:
            for path in paths:
                try:
                    await container.delete_blob(path)
                except Exception as error:
                    if code_of(error) not in _GONE:
                        raise

        self._do(work)

    def close(self) -> None:
        self._runner.close()

    def _get(self, path: str, size: int | None) -> tuple[bytes, str, int] | None:
        async def work(container: Any) -> tuple[bytes, str, int]:
            blob = container.get_blob_client(path)
            found = await blob.get_blob_properties()
            total, tag = int(found.size), str(found.etag)
            start = 0 if size is None else max(0, total - size)
            if total == 0:
                return b"", tag, 0
            from azure.core import MatchConditions

            down = await blob.download_blob(
                offset=start, length=total - start, etag=tag, match_condition=MatchConditions.IfNotModified
            )
            return await down.readall(), tag, total

        for _ in range(5):  # replaced between the two questions: ask again
            try:
                return self._do(work)
            except _Refused as error:
                if error.code in _GONE or error.status == 404:
                    return None
                if error.status != 412:
                    raise
        raise TargetUnusable(f"{self.shown(path)} changes faster than it can be read; try again later")

    def _upload(self, path: str, data: bytes, **more: Any) -> None:
        async def work(container: Any) -> None:
            await container.get_blob_client(path).upload_blob(data, **more)

        self._do(work)

    def _do(self, work: Callable[[Any], Coroutine[Any, Any, _T]]) -> _T:
        return self._runner.run(self._asked(work))

    async def _asked(self, work: Callable[[Any], Coroutine[Any, Any, _T]]) -> _T:
        from azure.core.exceptions import AzureError, HttpResponseError

        try:
            async with self._container() as container:
                return await work(container)
        except HttpResponseError as error:
            said = str(told(error, self._account, f"abfss://{self._filesystem}@{self._account.service}"))
            raise _Refused(said, code_of(error), error.status_code or 0) from error
        except AzureError as error:
            raise TargetUnusable(str(told(error, self._account, self._account.service))) from error

    @asynccontextmanager
    async def _container(self) -> AsyncIterator[Any]:
        async with self._account.blobs() as blobs:
            yield blobs.get_container_client(self._filesystem)


class _Refused(TargetUnusable):
    """The account answered with an error: its own `code`, and the HTTP `status`."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
