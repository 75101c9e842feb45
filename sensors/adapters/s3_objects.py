"""Single objects of a bucket: heads, ranges, and what may be done to an object after its run.

In flow keys (and the etag that the object must still have), out flow the server's answers. What concerns one object
alone (it cannot be read, its tags are full) is BadPayload with the key as its position; what concerns all of them, as a
missing permission does while nothing could be asked with success, is NotConnected. No order is promised.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sensors.adapters.aws import AwsClient
from sensors.adapters.aws_errors import Answered
from sensors.adapters.s3_copy import LARGEST_COPY, PART, copy_in_parts
from sensors.errors import BadPayload, SensorError

MAX_TAGS: Final = 10
_CHANGED: Final = frozenset({404, 409, 412})  # gone, being written, another etag
_LOST: Final = frozenset({"NoSuchBucket", "301", "PermanentRedirect"})
_DENIED: Final = frozenset({"AccessDenied", "403", "Forbidden"})
_ONE_OBJECT: Final = frozenset(
    {"400", "405", "501", "BadRequest", "InvalidObjectState", "InvalidRequest", "InvalidTag", "InvalidArgument"}
    | {"KeyTooLongError", "KeyTooLong", "EntityTooLarge", "MethodNotAllowed", "NotImplemented", "InvalidURI"}
)


class S3Objects:
    """Calls on the objects of one bucket. `where` are the arguments of every call, `probe` asks for the bucket itself.

    `copying` are the bytes that are copied in one call, and the size of the parts of a larger copy.
    """

    def __init__(
        self,
        client: AwsClient,
        where: Mapping[str, Any],
        probe: Callable[[], Awaitable[Any]],
        *,
        tags: bool = True,
        copying: tuple[int, int] = (LARGEST_COPY, PART),
    ) -> None:
        self._client = client
        self._where = where
        self._probe = probe
        self._has_tags = tags
        self._largest, self._part = copying
        self._proven: set[str] = set()  # operations that are known to be allowed

    async def head(self, key: str) -> Mapping[str, Any] | None:
        """Return the answer to a HEAD; None when there is no such object."""
        if not key or not _encodes(key):
            return None
        try:
            return await self._ask("head_object", key)
        except Answered as error:
            if error.status == 404:
                return None
            raise

    async def tags(self, key: str, seen: Mapping[str, Any]) -> dict[str, str]:
        """Return the tags of the version that a HEAD saw."""
        if not self._has_tags:
            return {}
        try:
            found = await self._ask("get_object_tagging", key, **_version(seen))
        except Answered as error:
            if error.status == 404:
                return {}
            raise
        return {item["Key"]: item["Value"] for item in found.get("TagSet") or ()}

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Read at most `length` bytes from `start` (negative: from the end); nothing behind the end."""
        if length <= 0:
            return b""
        if start < -length:
            seen = await self.head(key)
            if seen is None:
                raise self._gone(key)
            start = max(0, int(seen["ContentLength"]) + start)
        wanted = f"bytes={start}" if start < 0 else f"bytes={start}-{start + length - 1}"
        try:
            answer = await self._ask("get_object", key, Range=wanted)
        except Answered as error:
            if error.status == 416:
                return b""
            if error.status == 404:
                raise self._gone(key) from error
            raise
        if not answer.get("ContentRange"):
            size = int(answer.get("ContentLength") or 0)
            if start > 0 or size > -start > 0:
                answer["Body"].close()
                raise self._bad(key, "cannot be read in parts: the server knows no ranges")
        return await self._client.read(answer["Body"], length)

    # -- after a run --------------------------------------------------------------------------------------------------
    async def copy(self, key: str, etag: str, to: str) -> None:
        """Copy the object to another key."""
        source = await self._same(key, etag)
        if source is None:
            return
        origin = {"Bucket": self._where["Bucket"], "Key": key, **_version(source)}
        asked = {"CopySource": origin, "CopySourceIfMatch": f'"{etag}"'}
        if int(source["ContentLength"]) <= self._largest:
            await self._unless_changed(self._ask("copy_object", to, **asked))
        else:
            tags = await self.tags(key, source)
            whole = {**self._where, "Key": to, **asked}
            await self._unless_changed(copy_in_parts(self._client, whole, source, tags, self._part))

    async def delete(self, key: str, etag: str) -> None:
        """Delete the object."""
        if await self._same(key, etag) is None:
            return
        try:
            await self._unless_changed(self._ask("delete_object", key, IfMatch=f'"{etag}"'))
        except BadPayload as error:
            if not isinstance(error.__cause__, Answered) or error.__cause__.status != 501:
                raise
            await self._unless_changed(self._ask("delete_object", key))  # no conditions known there

    async def tag(self, key: str, etag: str, tags: Mapping[str, str]) -> None:
        """Add tags to those that the object has."""
        seen = await self._same(key, etag)
        if seen is None:
            return
        had = await self.tags(key, seen)
        merged = {**had, **tags}
        if merged == had:
            return
        if len(merged) > MAX_TAGS:
            raise self._bad(key, f"would have {len(merged)} tags, and {MAX_TAGS} are the most")
        tagging = {"TagSet": [{"Key": name, "Value": value} for name, value in merged.items()]}
        await self._unless_changed(self._ask("put_object_tagging", key, Tagging=tagging, **_version(seen)))

    async def _same(self, key: str, etag: str) -> Mapping[str, Any] | None:
        """Return the answer to a HEAD if the object still has this etag."""
        seen = await self.head(key)
        return seen if seen is not None and (seen.get("ETag") or "").strip('"') == etag else None

    async def _unless_changed(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except Answered as error:
            if error.status not in _CHANGED or error.code in _LOST:
                raise

    # -- asking -------------------------------------------------------------------------------------------------------
    async def _ask(self, operation: str, key: str, **more: Any) -> Mapping[str, Any]:
        try:
            answer = await self._client.call(operation, **self._where, Key=key, **more)
        except Answered as error:
            if error.status in (416, *_CHANGED) and error.code not in _LOST:
                raise
            raise await self._blame(error, operation, key) from error
        self._proven.add(operation)
        return answer

    async def _blame(self, error: Answered, operation: str, key: str) -> SensorError:
        """Return the error to raise: a refused HEAD has no text, and may concern one object or all of them."""
        denied = error.code in _DENIED
        if not denied and error.code not in _ONE_OBJECT:
            return error
        try:
            await self._probe()
        except SensorError as why:
            return why
        if denied and operation not in self._proven and "kms" not in str(error).lower():
            return error
        return self._bad(key, str(error).partition(": ")[2])

    def _gone(self, key: str) -> BadPayload:
        return self._bad(key, "is not there any more")

    def _bad(self, key: str, what: str) -> BadPayload:
        return BadPayload(f"s3://{self._where['Bucket']}/{key}: {what}", position=key)


def _version(seen: Mapping[str, Any]) -> dict[str, str]:
    """Return the argument that names the very version that was seen, where the bucket has versions."""
    version = seen.get("VersionId")
    return {"VersionId": version} if version else {}


def _encodes(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
