"""Places that keep objects, as a test sees them: written to by plain clients, and watched by our sensor.

In flow writes, out flows the truth: which version of each key is there now, told by a client that shares no code with
the sensor. A world makes the sensor's side of itself too: `watch` builds a new instance over the same place.
"""

import asyncio
import contextlib
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from azure.core.exceptions import HttpResponseError

from sensors.adapters.adls_client import AdlsClient
from sensors.adapters.adls_source import AdlsSource
from sensors.adapters.aws import AwsClient
from sensors.adapters.aws_options import access_of
from sensors.adapters.azure_account import read_account
from sensors.adapters.object_build import Ways, make_object_sensor
from sensors.adapters.objects import Hint, ObjectSource
from sensors.adapters.s3_source import S3Source
from sensors.adapters.watched_options import WatchedOptions
from sensors.clock import Clock
from sensors.kind import SensorContext
from sensors.kinds.adls import AdlsOptions
from sensors.kinds.files import Files, FilesOptions
from sensors.kinds.s3 import S3Options
from sensors.testing import VirtualClock
from tests.support.aws import Bucket
from tests.support.files import HandNotices, wall
from tests.support.lake import FileSystem
from tests.support.object_source import MemoryObjects
from tests.support.object_watch import SENSOR, Made, Mailbox, SmallPages

EVERY = "1d"  # scans come when a test asks for them
QUOTE = '"'
GIVEN: Mapping[str, Any] = {
    "start": "beginning",
    "every": EVERY,
    "on": ["created", "overwritten", "renamed", "deleted"],
    "ignore": [],
}


class World(Protocol):
    """Where objects are. `put` and `remove` return when the place has it; `truth` lists (token by key)."""

    clock: VirtualClock
    mailbox: Mailbox

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        ...

    def begin_in_parts(self, key: str, body: bytes) -> Callable[[], None]:
        """Begin to write an object in several parts, where there is such a thing; what is returned completes it."""
        ...

    def remove(self, key: str) -> None:
        """Remove an object."""
        ...

    def rename(self, key: str, to: str) -> bool:
        """Rename an object, where there is such a thing; False where there is none."""
        ...

    def truth(self) -> Mapping[str, str]:
        """Return the version token of every object that is there."""
        ...

    def tell(self, hint: Hint) -> None:
        """Let a notification come."""
        ...

    def fail(self, *errors: Exception) -> bool:
        """Let the next calls fail; False where calls cannot fail."""
        ...

    def watch(self) -> Made:
        """Make a new instance of the sensor."""
        ...


def _drop(_answer: object) -> None:
    """Take an answer that nobody asks for."""


def object_sensor(
    options: WatchedOptions, source: ObjectSource, mailbox: Mailbox, clock: Clock, page_size: int, parallel: int = 1
) -> Made:
    """Put a sensor together, on a source whose pages are made small, told of by a mailbox."""
    pages = SmallPages(source, page_size)
    context = SensorContext(SENSOR, "test", clock, Path("/"))
    sensor = make_object_sensor(options, pages, mailbox, context, Ways(parallel=parallel))
    return Made(
        sensor,
        sensor.poll,
        lambda: pages.busy == 0 and mailbox.quiet,
        pages.failures,
        lambda: len(mailbox.settled),
    )


class _Watched:
    """What worlds have in common whose sensor is made of an `ObjectSource`."""

    page_size = 2

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.mailbox = Mailbox()
        self._made: Made | None = None

    def tell(self, hint: Hint) -> None:
        """Let a notification come."""
        self.mailbox.deliver(hint)

    def fail(self, *errors: Exception) -> bool:
        """Let the next calls fail."""
        assert self._made is not None
        self._made.failures.extend(errors)
        return True

    def watch(self) -> Made:
        """Make a sensor."""
        self._made = self._make()
        return self._made

    def _make(self) -> Made:
        raise NotImplementedError


class MemoryWorld(_Watched):
    """Objects in memory; their time is the test's clock.

    `unordered`: listed backwards, as some services do. `parts`: the prefixes that are listed side by side.
    """

    def __init__(self, *, unordered: bool = False, parts: Sequence[str] = ()) -> None:
        super().__init__()
        self.objects = MemoryObjects(self.clock.now, page_size=self.page_size)
        self.objects.unordered = unordered
        self.objects.split = parts or None

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        self.objects.put(key, body)

    def begin_in_parts(self, key: str, body: bytes) -> Callable[[], None]:
        """Write an object whose time is that of the upload's begin, as S3 does."""
        modified = self.clock.now() - 7_200_000_000
        etag = f"{zlib.crc32(body):032x}-2"
        return lambda: _drop(self.objects.put(key, body, modified=modified, etag=etag))

    def remove(self, key: str) -> None:
        """Remove an object."""
        self.objects.remove(key)

    def rename(self, key: str, to: str) -> bool:
        """Move the very object, with its etag and time, as a hierarchical namespace does."""
        self.objects.objects[to] = self.objects.objects.pop(key)
        return True

    def truth(self) -> Mapping[str, str]:
        """Return the tokens."""
        return {
            key: f"{stored.etag}+{len(stored.body)}+{stored.modified // 1_000_000}"
            for key, stored in self.objects.objects.items()
        }

    def _make(self) -> Made:
        options = WatchedOptions.model_validate(GIVEN)
        parallel = 2 if self.objects.split else 1
        return object_sensor(options, self.objects, self.mailbox, self.clock, self.page_size, parallel)


class BucketWorld(_Watched):
    """A bucket on a real S3 server, written to by the SDK's plain client."""

    def __init__(self, bucket: Bucket, least_part: int) -> None:
        super().__init__()
        self._bucket = bucket
        self._least_part = least_part

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        self._bucket.put(key, body)

    def begin_in_parts(self, key: str, body: bytes) -> Callable[[], None]:
        """Write an object by a multipart upload of two parts; its first one is as large as the server demands."""
        complete = self._bucket.begin_in_parts(key, [body.rjust(self._least_part, b"-"), body])
        return lambda: _drop(complete())

    def remove(self, key: str) -> None:
        """Remove an object."""
        self._bucket.delete(key)

    def rename(self, key: str, to: str) -> bool:
        """S3 knows no renames."""
        return False

    def truth(self) -> Mapping[str, str]:
        """List the bucket."""
        answer = self._bucket.aws.s3.list_objects_v2(Bucket=self._bucket.name)
        assert not answer["IsTruncated"]
        return {
            item["Key"]: f"{item['ETag'].strip(QUOTE)}+{item['Size']}+{int(item['LastModified'].timestamp())}"
            for item in answer.get("Contents", ())
        }

    def _make(self) -> Made:
        options = S3Options.model_validate({**self._bucket.options, **GIVEN})
        client = AwsClient(access_of(options, None, SensorContext(SENSOR, "", self.clock, Path("/"))), "s3", "s3://it")
        return object_sensor(options, S3Source(client, options.bucket), self.mailbox, self.clock, self.page_size)


class LakeWorld(_Watched):
    """A file system of a Data Lake, written to by the plain SDK, on a loop of its own."""

    def __init__(self, filesystem: FileSystem, runner: asyncio.Runner) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._options = filesystem.options
        self._do = runner.run

    def put(self, key: str, body: bytes) -> None:
        """Write a file: create, append, flush."""
        self._do(self._filesystem.put(key, body))

    def begin_in_parts(self, key: str, body: bytes) -> Callable[[], None]:
        """Write a file in two appends: it is there, and empty, until they are flushed."""

        async def begin() -> Any:
            file = await self._filesystem.client.create_file(key)
            await file.append_data(body[:3], 0, 3)
            await file.append_data(body[3:], 3, len(body) - 3)
            return file

        file = self._do(begin())

        def complete() -> None:
            with contextlib.suppress(HttpResponseError):  # removed, renamed or begun anew meanwhile: that one holds
                self._do(file.flush_data(len(body)))

        return complete

    def remove(self, key: str) -> None:
        """Remove a file."""
        self._do(self._filesystem.delete(key))

    def rename(self, key: str, to: str) -> bool:
        """Rename a file: its etag and time stay."""
        self._do(self._filesystem.rename(key, to))
        return True

    def truth(self) -> Mapping[str, str]:
        """List the file system."""

        async def listed() -> dict[str, str]:
            return {
                item.name: f"{item.etag.strip(QUOTE)}+{item.content_length}+{int(item.last_modified.timestamp())}"
                async for item in self._filesystem.client.get_paths()
                if not item.is_directory
            }

        return self._do(listed())

    def _make(self) -> Made:
        options = AdlsOptions.model_validate({**self._options, **GIVEN})
        source = AdlsSource(AdlsClient(read_account(options, None, {}), options.filesystem), self.clock, page_size=2)
        return object_sensor(options, source, self.mailbox, self.clock, self.page_size)


class FilesWorld:
    """Files in a directory; what the file system says of them is the truth. The sensor is the one of kind `files`."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(wall() + 3_600_000_000)  # so that no file counts as still changing
        self.mailbox = Mailbox()
        self._folder = folder
        self._sensor: Files | None = None

    def put(self, key: str, body: bytes) -> None:
        """Write a file, then give it its name."""
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{len(key)}.tmp"
        temporary.write_bytes(body)
        temporary.rename(path)

    def begin_in_parts(self, key: str, body: bytes) -> Callable[[], None]:
        """Write into the file itself, and the rest of it later."""
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body[:3])

        def complete() -> None:
            with path.open("ab") as file:
                file.write(body[3:])

        return complete

    def remove(self, key: str) -> None:
        """Remove a file."""
        (self._folder / key).unlink(missing_ok=True)

    def rename(self, key: str, to: str) -> bool:
        """Renames are not told of as such."""
        return False

    def truth(self) -> Mapping[str, str]:
        """Ask the file system."""
        found: dict[str, str] = {}
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = Path(folder) / name
                seen = path.stat()
                found[str(path.relative_to(self._folder))] = f"{seen.st_size}+{seen.st_mtime_ns}"
        return found

    def tell(self, hint: Hint) -> None:
        """Tell of a path as the operating system would."""
        assert self._sensor is not None
        self._sensor._hints.changed([f"{self._folder}/{hint.key}"])

    def fail(self, *errors: Exception) -> bool:
        """The disk does not fail."""
        return False

    def watch(self) -> Made:
        """Make a sensor."""
        given = {
            "path": str(self._folder),
            "start": "beginning",
            "settle": "0s",
            "every": EVERY,
            "on": ["created", "modified", "deleted"],
        }
        context = SensorContext(SENSOR, "test", self.clock, self._folder)
        sensor = self._sensor = Files(FilesOptions.model_validate(given), context, HandNotices)

        def quiet() -> bool:
            return sensor._alarm._waiter is not None and not sensor._has_work()

        return Made(sensor, sensor.poll, quiet)
