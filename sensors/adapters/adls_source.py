"""ADLS Gen2 as a source of objects: listings, heads, ranges, and what may be done to a file after its run.

In flow calls of `ObjectSource`, out flow pages of `Listed`. The pages of a listing are in no promised order: the
service lists folder by folder. Folders are no objects. A rename keeps etag and modification time.

What concerns one file alone (it is gone, it may not be read) is BadPayload with the path as its position.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from sensors.adapters.adls_client import AdlsClient, NoParentError
from sensors.adapters.adls_walk import Walk, level_of, read_walk
from sensors.adapters.objects import SECOND, Listed, ObjectPage
from sensors.clock import Clock
from sensors.errors import NotConnected

PAGE: Final = 5000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_POLL: Final = 1.0  # seconds between questions whether a copy is complete


class AdlsSource:
    """One file system. `clock` is for waiting until a copy is complete; `page_size` is at most 5000."""

    ordered = False

    def __init__(self, client: AdlsClient, clock: Clock, *, page_size: int = PAGE) -> None:
        self.place = client.place
        self._client = client
        self._clock = clock
        self._page_size = page_size

    async def open(self) -> None:
        """Connect, and prove that the file system is there and may be listed."""
        await self._client.open()

    async def close(self) -> None:
        """Let go; never raises."""
        await self._client.close()

    def url(self, key: str) -> str:
        """Return `abfss://filesystem@account.dfs.core.windows.net/path`."""
        return f"{self.place}/{key}"

    # -- listing ------------------------------------------------------------------------------------------------------
    async def shards(self, prefixes: Sequence[str]) -> Sequence[str]:
        """Return the prefixes: splitting a listing at its folders would gain nothing."""
        return prefixes

    async def page(self, prefix: str, token: str | None, after: str = "") -> ObjectPage:
        """List one page below a prefix. A folder that is not there is empty.

        The service lists folders, not prefixes. Where a prefix ends within a name, the folders of that level that fit
        are listed one after the other if they are few, else all of the level.
        """
        walk = Walk.begin(prefix) if token is None else read_walk(token)
        if walk is None:
            raise NotConnected(f"{self._client.where}: where the listing was cannot be read; it begins anew")
        entries, more = await self._client.list(walk.folder, walk.token, self._page_size, recursive=walk.deep)
        try:
            files, folders = level_of(entries, prefix, after)
            page = [_listed(item) for item in files]
        except (AttributeError, TypeError, ValueError) as error:
            raise self._client.senseless() from error
        further, counts = walk.next(more, folders)
        return ObjectPage(page if counts else (), further)

    # -- one file -----------------------------------------------------------------------------------------------------
    async def head(self, key: str, *, details: bool = False) -> Listed | None:
        """Look at one file; None when there is none, and for a folder. `details` fills all but tags."""
        found = await self._client.look(key)
        if found is None:
            return None
        seen = self._seen(key, found)
        if not details:
            return seen
        kind = found.content_settings.content_type
        return Listed(
            *(seen.key, seen.size, seen.etag, seen.modified), content_type=kind, metadata=dict(found.metadata or {})
        )

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Read at most `length` bytes from `start` (negative: from the end); nothing behind the end.

        Raises BadPayload when the file is gone or may not be read.
        """
        if length <= 0:
            return b""
        if start < 0:
            found = await self._client.look(key)
            if found is None:
                raise self._client.bad(key, "is not there any more")
            start = max(0, self._seen(key, found).size + start)
        return await self._client.read(key, start, length)

    def _seen(self, key: str, found: Any) -> Listed:
        try:
            return Listed(key, int(found.size), _etag(found.etag), _micros(found.last_modified))
        except (AttributeError, TypeError, ValueError) as error:
            raise self._client.senseless() from error

    # -- after a run --------------------------------------------------------------------------------------------------
    async def copy(self, key: str, etag: str, to: str) -> None:
        """Copy the file within the service; nothing is done when it is gone or has another etag."""
        source, target = self._client.blob(key), self._client.blob(to)
        same = _if_same(etag, "source_")
        if not await self._client.act(key, lambda: target.start_copy_from_url(source.url, **same)):
            return
        while True:
            status = await self._client.copy_status(to)
            if status in (None, "success"):
                return
            if status != "pending":
                raise self._client.bad(key, f"could not be copied to {to}: {status}")
            await self._clock.sleep(_POLL)

    async def move(self, key: str, etag: str, to: str) -> None:
        """Rename the file, in one step; nothing is done when it is gone or has another etag."""
        self._client.check(key)
        self._client.check(to)
        # The SDK decodes the source's name once more than it encodes it.
        file = self._client.files.get_file_client(quote(key, safe="/"))
        same = _if_same(etag, "source_")
        name = f"{self._client.filesystem}/{to}"
        try:
            await self._client.act(key, lambda: file.rename_file(name, **same))
        except NoParentError:
            await self._client.make_folder(to.rpartition("/")[0])
            await self._client.act(key, lambda: file.rename_file(name, **same))

    async def delete(self, key: str, etag: str) -> None:
        """Delete the file; nothing is done when it is gone or has another etag."""
        file = self._client.file(key)
        await self._client.act(key, lambda: file.delete_file(**_if_same(etag)))

    async def tag(self, key: str, etag: str, tags: Mapping[str, str]) -> None:
        """Add metadata to what the file has; nothing is done when it is gone or has another etag."""
        for name, value in tags.items():
            if not _NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
                raise self._client.bad(
                    key, f"cannot have the metadata {name!r}: a name of letters, digits and _, a value in ASCII"
                )
        found = await self._client.look(key)
        if found is None or self._seen(key, found).etag != etag:
            return
        had = dict(found.metadata or {})
        ours = {name.lower() for name in tags}  # names that differ in case alone are the same
        merged = {**{name: value for name, value in had.items() if name.lower() not in ours}, **tags}
        if merged == had:
            return
        file = self._client.file(key)
        await self._client.act(key, lambda: file.set_metadata(merged, **_if_same(etag)))


def _listed(item: Any) -> Listed:
    return Listed(item.name, int(item.content_length), _etag(item.etag), _micros(item.last_modified))


def _if_same(etag: str, of: str = "") -> dict[str, Any]:
    from azure.core import MatchConditions

    return {f"{of}etag": f'"{etag}"', f"{of}match_condition": MatchConditions.IfNotModified}


def _etag(value: str | None) -> str:
    if not value:
        raise ValueError("no etag")
    return value.strip('"')


def _micros(moment: datetime) -> int:
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * SECOND
