"""Exactly one event per object version that survived a scan, whatever happened to notifications, calls and processes.

The same machine on every place that keeps objects: the sensor's events against what an independent client saw.
`make objects` runs it for longer.
"""

import pytest

from tests.support.aws import Aws
from tests.support.azure import Azurite
from tests.support.object_machine import check
from tests.support.object_places import IN_MEMORY, buckets, file_systems, files


@pytest.mark.parametrize("how", IN_MEMORY)
def test_objects_in_memory(how: str) -> None:
    """Every version that survived a scan is told once, in order, and a deletion only when it is true."""
    check(IN_MEMORY[how], examples=40)


def test_files_on_disk() -> None:
    """The same holds for files, with the notices of the operating system lost, repeated and late."""
    check(files(), examples=30)


@pytest.mark.integration
def test_a_bucket_on_ministack(ministack: Aws) -> None:
    """The same holds on an S3 server through the SDK, multipart uploads included."""
    check(buckets(ministack), examples=6, shrink=False)


@pytest.mark.integration
def test_a_bucket_on_seaweedfs(seaweedfs: Aws) -> None:
    """The same holds on a real S3 server, which takes no small parts."""
    check(buckets(seaweedfs, 5 << 20), examples=4, shrink=False)


@pytest.mark.integration
def test_a_file_system(lake: Azurite) -> None:
    """The same holds on a Data Lake, renames included."""
    check(file_systems(lake), examples=5, shrink=False)
