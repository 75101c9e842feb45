"""Files of a bucket. Publishing is one conditional PUT (`If-Match`, `If-None-Match`): the server compares and replaces.

The worker that writes is synchronous; the client, shared with the sensors, is not. A loop of its own runs it here.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from pipelines.datasets.places import Moved
from pipelines.datasets.written import TargetUnusable
from sensors.adapters.aws import AwsClient
from sensors.adapters.aws_errors import Answered
from sensors.adapters.aws_options import AwsAccess
from sensors.errors import SensorError

_GONE: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_MOVED: Final = frozenset({"412", "409", "PreconditionFailed", "ConditionalRequestConflict"})
_MOST: Final = 8 << 30
_T = TypeVar("_T")


class S3Files:
    """The objects of one bucket, by their keys."""

    def __init__(self, bucket: str, access: AwsAccess) -> None:
        self._bucket = bucket
        self._runner = asyncio.Runner()
        self._client = AwsClient(access, "s3", f"s3://{bucket}")
        try:
            self._do(self._client.open())
        except BaseException:
            self._runner.close()
            raise

    def shown(self, path: str) -> str:
        return f"s3://{self._bucket}/{path}"

    def fetch(self, path: str) -> tuple[bytes, str] | None:
        found = self._get(path, {})
        return None if found is None else (found[0], found[1])

    def tail(self, path: str, size: int) -> tuple[bytes, str, int] | None:
        found = self._get(path, {"Range": f"bytes=-{size}"})
        if found is None:
            return None
        data, tag, answer = found
        total = str(answer.get("ContentRange", "")).rpartition("/")[2]
        return data[-size:], tag, int(total) if total.isdigit() else len(data)

    def put(self, path: str, data: bytes) -> None:
        self._call("put_object", Key=path, Body=data)

    def swap(self, path: str, data: bytes, tag: str | None) -> None:
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            self._call("put_object", Key=path, Body=data, **condition)
        except _Refused as error:
            if error.code in _MOVED or (tag is not None and error.code in _GONE):
                raise Moved(path) from error
            raise

    def names(self, folder: str) -> Mapping[str, int]:
        found: dict[str, int] = {}
        more: dict[str, Any] = {}
        while True:
            answer = self._call("list_objects_v2", Prefix=folder, **more)
            for item in answer.get("Contents") or ():
                found[item["Key"]] = int(item["LastModified"].timestamp() * 1_000_000)
            if not answer.get("IsTruncated"):
                return found
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            self._call("delete_object", Key=path)

    def close(self) -> None:
        try:
            self._runner.run(self._client.close())
        finally:
            self._runner.close()

    def _get(self, path: str, more: Mapping[str, str]) -> tuple[bytes, str, Mapping[str, Any]] | None:
        async def get() -> tuple[bytes, str, Mapping[str, Any]]:
            answer = await self._client.call("get_object", Bucket=self._bucket, Key=path, **more)
            return await self._client.read(answer["Body"], _MOST), str(answer["ETag"]), answer

        try:
            return self._do(get())
        except _Refused as error:
            if error.code in _GONE:
                return None
            raise

    def _call(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        return self._do(self._client.call(operation, Bucket=self._bucket, **parameters))

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return self._runner.run(work)
        except Answered as error:
            raise _Refused(str(error), error.code) from error
        except SensorError as error:
            raise TargetUnusable(str(error)) from error


class _Refused(TargetUnusable):
    """The server answered with an error; `code` is its own."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
