"""S3 as a source of objects: listings, heads, ranges, and what may be done to an object after its run.

In flow calls of `ObjectSource`, out flow pages of `Listed` in the order of the keys' UTF-8 bytes. Some servers that
speak S3 list folder by folder instead: the first page that shows it turns `ordered` to False, before it is handed over.
Directory buckets and listings of versions are never ordered. Errors: see `s3_objects`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from sensors.adapters.aws import AwsClient
from sensors.adapters.objects import SECOND, Listed, ObjectPage
from sensors.adapters.s3_copy import LARGEST_COPY, PART
from sensors.adapters.s3_objects import S3Objects
from sensors.adapters.s3_shards import split
from sensors.errors import NotConnected

_LEVELS: Final = 5
_LEVEL_PAGES: Final = 10
_ODD: Final = (KeyError, TypeError, AttributeError, ValueError)  # what an answer without its parts leads to


class S3Source:
    """One bucket. `probe` is the prefix that `open` lists, since more may be denied.

    `shards` is the greatest number of parts of a listing, `page` that of the objects in a page. `copying`: see
    `S3Objects`.
    """

    def __init__(
        self,
        client: AwsClient,
        bucket: str,
        *,
        probe: str = "",
        versions: bool = False,
        requester_pays: bool = False,
        shards: int = 1,
        copying: tuple[int, int] = (LARGEST_COPY, PART),
        page: int = 1000,
    ) -> None:
        self.place = f"s3://{bucket}"
        self._directory = bucket.endswith("--x-s3")
        self.ordered = not (self._directory or versions)
        self._client = client
        self._probe = probe
        self._versions = versions
        self._shards = shards
        self._page = page
        self._where: dict[str, Any] = {"Bucket": bucket, **({"RequestPayer": "requester"} if requester_pays else {})}
        self._one = S3Objects(client, self._where, self._prove, tags=not self._directory, copying=copying)
        self._ends: dict[str, tuple[str, str]] = {}  # prefix -> the token that goes on, the last key before it

    async def open(self) -> None:
        """Connect, and prove that the bucket is there and may be listed."""
        await self._client.open()
        self._ends.clear()
        try:
            await self._prove()
        except BaseException:
            await self._client.close()
            raise

    async def _prove(self) -> None:
        await self._list(self._probe, None, "", 1)

    async def close(self) -> None:
        """Let go; never raises."""
        await self._client.close()

    def url(self, key: str) -> str:
        """Return `s3://bucket/key`."""
        return f"{self.place}/{key}"

    # -- listing ------------------------------------------------------------------------------------------------------
    async def shards(self, prefixes: Sequence[str]) -> Sequence[str]:
        """Split prefixes at their folders into at most as many parts as configured.

        The parts cover all objects that are there now. What was below a folder that is gone is below no part.
        """
        if self._shards <= 1 or not self.ordered:
            return prefixes
        parts: list[str] = []
        each = max(1, self._shards // max(1, len(prefixes)))
        for prefix in prefixes:
            names = await self._level(prefix)
            parts += [prefix] if names is None else split(names, each)
        return parts

    async def page(self, prefix: str, token: str | None, after: str = "") -> ObjectPage:
        """List one page below a prefix; placeholders of folders (empty, `/` at the end) are left out."""
        if self._versions:
            return await self._whole_keys(prefix, token, after)
        answer = await self._list(prefix, token, after, self._page)
        try:
            found = [_listed(item) for item in answer.get("Contents") or ()]
        except _ODD as error:
            raise self._senseless("lists an object without its key, size or time") from error
        more = _next(answer, "NextContinuationToken")
        self._check_order(prefix, token, after, found, more)
        if more is not None and more == token:
            raise self._senseless("goes on where it was")
        page = [item for item in found if not (item.size == 0 and item.key.endswith("/"))]
        if self._directory:  # it lists whole folders only
            page = [item for item in page if item.key.startswith(prefix)]
        return ObjectPage(page, more)

    async def _list(self, prefix: str, token: str | None, after: str, limit: int) -> Mapping[str, Any]:
        asked: dict[str, Any] = {**self._where, "Prefix": prefix, "MaxKeys": limit}
        if self._versions:
            if token is not None:
                try:
                    asked["KeyMarker"], version = orjson.loads(token)
                    if version:  # an empty one is refused; without it the listing goes on behind the key
                        asked["VersionIdMarker"] = version
                except (ValueError, TypeError) as error:
                    raise NotConnected(f"{self.place}: the listing cannot go on at {token[:100]!r}") from error
            elif after:
                asked["KeyMarker"] = after
            return await self._client.call("list_object_versions", **asked)
        if self._directory:
            asked["Prefix"] = prefix[: prefix.rfind("/") + 1]
        elif token is None and after:
            asked["StartAfter"] = after
        if token is not None:
            asked["ContinuationToken"] = token
        return await self._client.call("list_objects_v2", **asked)

    async def _whole_keys(self, prefix: str, token: str | None, after: str) -> ObjectPage:
        """List versions; the last key of a page is left to the next one, for its older versions may stand there."""
        found: list[Listed] = []
        while True:
            answer = await self._list(prefix, token, after, self._page)
            try:
                page = self._page_of_versions(answer, token)
            except _ODD as error:
                raise self._senseless("lists an object without its key, size or time") from error
            found += page.objects
            if page.next is None:
                return ObjectPage(found)
            token, last = page.next, answer["NextKeyMarker"]
            whole = [item for item in found if item.key != last]
            if whole:
                return ObjectPage(whole, orjson.dumps([whole[-1].key, ""]).decode())

    def _page_of_versions(self, answer: Mapping[str, Any], token: str | None) -> ObjectPage:
        found = [_listed(item, versions=True) for item in answer.get("Versions") or ()]
        found += [_listed(item, versions=True, deleted=True) for item in answer.get("DeleteMarkers") or ()]
        page = [item for item in found if item.deleted or not (item.size == 0 and item.key.endswith("/"))]
        page.sort(key=lambda item: (item.key, item.modified))
        if not answer.get("IsTruncated"):
            return ObjectPage(page)
        key = answer.get("NextKeyMarker")
        more = orjson.dumps([key, answer.get("NextVersionIdMarker") or ""]).decode()
        if not key or more == token:
            raise self._senseless("has more to list and does not say where")
        return ObjectPage(page, more)

    def _check_order(
        self, prefix: str, token: str | None, after: str, found: Sequence[Listed], more: str | None
    ) -> None:
        if not self.ordered:
            return
        keys = [item.key for item in found]
        known, last = self._ends.pop(prefix, (None, ""))
        before = after if token is None else last if known == token else ""
        if before:
            keys.insert(0, before)
        if keys != sorted(set(keys)):  # code points sort as their UTF-8 bytes do
            self.ordered = False
        elif more is not None and keys:
            self._ends[prefix] = (more, keys[-1])

    async def _level(self, prefix: str) -> list[str] | None:
        """Return the folders and objects at the first level below a prefix where it forks; None when it is too wide."""
        for _ in range(_LEVELS):
            names: list[str] = []
            token: str | None = None
            for _ in range(_LEVEL_PAGES):
                asked: dict[str, Any] = {**self._where, "Prefix": prefix, "Delimiter": "/"}
                if token is not None:
                    asked["ContinuationToken"] = token
                answer = await self._client.call("list_objects_v2", **asked)
                names += [item["Prefix"] for item in answer.get("CommonPrefixes") or ()]
                names += [item["Key"] for item in answer.get("Contents") or () if item["Key"] != prefix or item["Size"]]
                token = _next(answer, "NextContinuationToken")
                if token is None:
                    break
            else:
                return None
            if len(names) != 1 or not names[0].endswith("/") or names[0] == prefix:
                return names or None
            prefix = names[0]
        return [prefix]

    # -- one object ---------------------------------------------------------------------------------------------------
    async def head(self, key: str, *, details: bool = False) -> Listed | None:
        """Look at one object; None when there is none, and for the placeholder of a folder."""
        answer = await self._one.head(key)
        if answer is None:
            return None
        try:
            seen = _listed({**answer, "Key": key, "Size": answer["ContentLength"]}, versions=self._versions)
        except _ODD as error:
            raise self._senseless("answers a HEAD without size or time") from error
        if seen.size == 0 and key.endswith("/"):
            return None
        if not details:
            return seen
        return Listed(
            *(seen.key, seen.size, seen.etag, seen.modified, seen.version),
            content_type=answer.get("ContentType"),
            metadata=dict(answer.get("Metadata") or {}),
            tags=await self._one.tags(key, answer),
        )

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Read a range. Raises BadPayload when the object is gone or cannot be read."""
        return await self._one.read(key, start, length)

    async def copy(self, key: str, etag: str, to: str) -> None:
        """Copy the object to another key; nothing is done when it is gone or has another etag."""
        await self._one.copy(key, etag, to)

    async def move(self, key: str, etag: str, to: str) -> None:
        """Copy the object to another key, then delete it; nothing is done when it is gone or has another etag."""
        await self._one.copy(key, etag, to)
        await self._one.delete(key, etag)

    async def delete(self, key: str, etag: str) -> None:
        """Delete the object; nothing is done when it is gone or has another etag."""
        await self._one.delete(key, etag)

    async def tag(self, key: str, etag: str, tags: Mapping[str, str]) -> None:
        """Add tags to those that the object has; nothing is done when it is gone or has another etag."""
        await self._one.tag(key, etag, tags)

    def _senseless(self, what: str) -> NotConnected:
        return NotConnected(f"{self.place}: the server {what}; is it one that speaks S3?")


def _listed(item: Mapping[str, Any], *, versions: bool = False, deleted: bool = False) -> Listed:
    modified = int(item["LastModified"].timestamp()) * SECOND
    etag = item.get("ETag") or ""
    if not versions:
        return Listed(item["Key"], item["Size"], etag.strip('"'), modified)
    version = item.get("VersionId") or ""
    return Listed(
        *(item["Key"], 0 if deleted else item["Size"], etag.strip('"'), modified),
        version="" if version == "null" else version,  # written without versioning, and overwritten under this name
        deleted=deleted,
    )


def _next(answer: Mapping[str, Any], name: str) -> str | None:
    if not answer.get("IsTruncated"):
        return None
    token: str | None = answer.get(name)
    if not token:
        raise NotConnected("the server has more to list and does not say where; is it one that speaks S3?")
    return token
