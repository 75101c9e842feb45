"""The worlds of the differential test, each made anew for an example; servers are started once by whoever asks."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.support.aws import Aws
from tests.support.azure import Azurite
from tests.support.lake import new_file_system
from tests.support.object_machine import MakeWorld
from tests.support.object_worlds import BucketWorld, FilesWorld, LakeWorld, MemoryWorld, World

_PARTS = ("!", "a", "d", "m", "z")  # what the machine's keys begin with


@contextlib.contextmanager
def _memory(*, unordered: bool, parts: tuple[str, ...]) -> Iterator[World]:
    yield MemoryWorld(unordered=unordered, parts=parts)


@contextlib.contextmanager
def _files() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="tidegate-files-") as folder:
        yield FilesWorld(Path(folder))


@contextlib.contextmanager
def _bucket(aws: Aws, least_part: int) -> Iterator[World]:
    with aws.bucket() as bucket:
        yield BucketWorld(bucket, least_part)


@contextlib.contextmanager
def _file_system(lake: Azurite) -> Iterator[World]:
    with asyncio.Runner() as runner:
        opening = new_file_system(lake)
        filesystem = runner.run(opening.__aenter__())
        try:
            yield LakeWorld(filesystem, runner)
        finally:
            runner.run(opening.__aexit__(None, None, None))


IN_MEMORY: dict[str, MakeWorld] = {
    "in key order": partial(_memory, unordered=False, parts=()),
    "in no order": partial(_memory, unordered=True, parts=()),
    "in parts": partial(_memory, unordered=False, parts=_PARTS),
}


def files() -> MakeWorld:
    """Make worlds of files on disk."""
    return _files


def buckets(aws: Aws, least_part: int = 0) -> MakeWorld:
    """Make worlds on an S3 server, which takes no part but the last one that is smaller than `least_part` bytes."""
    return partial(_bucket, aws, least_part)


def file_systems(lake: Azurite) -> MakeWorld:
    """Make worlds on a Data Lake."""
    return partial(_file_system, lake)
