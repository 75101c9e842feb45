"""Opens datasets in files: of this machine, of S3, of Azure Data Lake; one file, or a folder with a manifest."""

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.datasets.connections import aws_access, azure_account
from pipelines.datasets.folder import Folder
from pipelines.datasets.places import Files, LocalFiles
from pipelines.datasets.single_file import SingleFile
from pipelines.datasets.target import Target

Connection = Mapping[str, Any] | None
Sleep = Callable[[float], None]


def open_local(target: Target, _connection: Connection, sleep: Sleep) -> SingleFile | Folder:
    """Open files of this machine."""
    return _laid_out(target, LocalFiles(), sleep)


def open_s3(target: Target, connection: Connection, sleep: Sleep) -> SingleFile | Folder:
    """Open objects of a bucket."""
    from pipelines.datasets.s3_files import S3Files

    return _laid_out(target, S3Files(target.place, aws_access(connection)), sleep)


def open_abfss(target: Target, connection: Connection, sleep: Sleep) -> SingleFile | Folder:
    """Open files of a file system."""
    from pipelines.datasets.azure_files import AzureFiles

    filesystem, _, host = target.place.partition("@")
    return _laid_out(target, AzureFiles(filesystem, azure_account(connection, host)), sleep)


def _laid_out(target: Target, files: Files, sleep: Sleep) -> SingleFile | Folder:
    return Folder(target, files, sleep) if target.folder else SingleFile(target, files, sleep)
