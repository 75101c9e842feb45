"""A file system of one test, written to with the official Data Lake SDK."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.filedatalake import ContentSettings
from azure.storage.filedatalake.aio import DataLakeServiceClient, FileSystemClient

from tests.support.azure import Azurite


@dataclass(frozen=True)
class FileSystem:
    """A file system of one test; `client` is the SDK's."""

    name: str
    lake: Azurite
    client: FileSystemClient

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of a sensor on this file system."""
        return {"connection_string": self.lake.connection_string, "filesystem": self.name}

    async def put(
        self, path: str, body: bytes = b"x", *, metadata: Mapping[str, str] | None = None, content_type: str = ""
    ) -> str:
        """Write a file (create, append, flush) and return its etag without quotes."""
        file = self.client.get_file_client(path)
        settings = ContentSettings(content_type=content_type) if content_type else None
        await file.create_file(content_settings=settings, metadata=dict(metadata) if metadata else None)
        if body:
            await file.append_data(body, 0, len(body))
        done = await file.flush_data(len(body))
        return str(done["etag"]).strip('"')

    async def get(self, path: str) -> bytes:
        """Read a file."""
        return await (await self.client.get_file_client(path).download_file()).readall()

    async def etag(self, path: str) -> str:
        """Return a file's etag without quotes."""
        return str((await self.client.get_file_client(path).get_file_properties()).etag).strip('"')

    async def metadata(self, path: str) -> dict[str, str]:
        """Return a file's metadata."""
        return dict((await self.client.get_file_client(path).get_file_properties()).metadata or {})

    async def delete(self, *paths: str) -> None:
        """Delete files, or folders with all that is in them."""
        for path in paths:
            with contextlib.suppress(ResourceNotFoundError):
                await self.client.get_directory_client(path).delete_directory()

    async def rename(self, path: str, to: str) -> None:
        """Rename a file or a folder; the folder above the new name is made."""
        folder = to.rpartition("/")[0]
        if folder and not await self.client.get_directory_client(folder).exists():
            await self.client.create_directory(folder)
        await self.client.get_directory_client(path).rename_directory(f"{self.name}/{to}")

    async def make_folder(self, path: str) -> None:
        """Make a folder, unless it is there."""
        await self.client.get_directory_client(path).create_directory(match_condition=MatchConditions.IfMissing)

    async def paths(self) -> list[str]:
        """Return all files."""
        return sorted(item.name for item in [one async for one in self.client.get_paths()] if not item.is_directory)


@contextlib.asynccontextmanager
async def new_file_system(lake: Azurite) -> AsyncIterator[FileSystem]:
    """Make a file system with a name of its own; delete it afterwards."""
    name = f"t-{uuid.uuid4().hex[:16]}"
    async with DataLakeServiceClient.from_connection_string(lake.connection_string, retry_total=0) as service:
        client = await service.create_file_system(name)
        try:
            yield FileSystem(name, lake, client)
        finally:
            await service.delete_file_system(name)
