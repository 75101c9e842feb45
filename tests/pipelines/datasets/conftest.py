"""The servers that datasets lie on, and the places that the contract is tested on."""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient

from tests.support.aws import Aws, running_ministack
from tests.support.azure import Azurite, running_azurite
from tests.support.dataset_places import LOCAL, REMOTE, ROWS_ONLY, Place
from tests.support.dfs_gateway import running_gateway
from tests.support.postgres import Server, fresh_database, running_server
from tests.support.snowflake import Snowflake, running_snowflake


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def warehouse(postgres: Server) -> Iterator[str]:
    """A user's database that the tests share; each has its own schema."""
    with fresh_database(postgres, empty=True) as url:
        yield url


@pytest.fixture(scope="session")
def objects() -> Iterator[Aws]:
    """A server that speaks S3 and takes conditional writes."""
    with running_ministack() as server:
        yield server


@pytest.fixture(scope="session")
def snowflake() -> Iterator[Snowflake]:
    """A Snowflake."""
    with running_snowflake() as server:
        yield server


@pytest.fixture(scope="session")
def lake() -> Iterator[Azurite]:
    """Azure Data Lake (our gateway before Azurite)."""
    with running_azurite() as azurite, running_gateway(azurite) as server:
        yield server


@pytest.fixture
def make_place(request: pytest.FixtureRequest, tmp_path: Path) -> "MakePlace":
    """Make an empty place of a kind."""
    return MakePlace(request, tmp_path)


class MakePlace:
    """Makes places; servers start when the first one asks."""

    def __init__(self, request: pytest.FixtureRequest, base: Path) -> None:
        self._request = request
        self._base = base

    def __call__(self, name: str) -> Place:
        if name in LOCAL:
            return Place(name=name, uri=LOCAL[name], base=self._base)
        own = f"t{uuid.uuid4().hex[:12]}"
        if name == "postgresql":
            url: str = self._request.getfixturevalue("warehouse")
            uri = f"{url.partition('?')[0]}/{own}.{{}}"
            return Place(name=name, uri=uri, base=self._base, connection={"kind": "postgresql", "url": url})
        if name == "snowflake":
            server: Snowflake = self._request.getfixturevalue("snowflake")
            uri = f"snowflake://org-acct/analytics.{own}.{{}}"
            return Place(name=name, uri=uri, base=self._base, connection=server.connection)
        if name.startswith(("s3", "delta+s3")):
            aws: Aws = self._request.getfixturevalue("objects")
            aws.s3.create_bucket(Bucket=own)
            connection = {"kind": "aws", **aws.options}
            return Place(name=name, uri=REMOTE[name].format(place=own), base=self._base, connection=connection)
        azure: Azurite = self._request.getfixturevalue("lake")
        with BlobServiceClient.from_connection_string(azure.connection_string) as client:
            client.create_container(own)
        where = f"{own}@{azure.account}"
        connection = {"kind": "azure", "connection_string": azure.connection_string}
        return Place(name=name, uri=REMOTE[name].format(place=where), base=self._base, connection=connection)


# What is far away takes its time: of it the short suite tries two dispositions, and `make writes` all of the contract.
FAR = ("snowflake", "s3", "s3-folder", "abfss", "abfss-folder", "delta+s3")


def _params(names: Sequence[str], far: Sequence[str] = FAR) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.campaign] if name in far else []) for name in names]


ALL = (*LOCAL, *REMOTE)
WRITABLE = tuple(name for name in ALL if name not in ROWS_ONLY)


@pytest.fixture(params=_params(ALL))
def place(request: pytest.FixtureRequest, make_place: MakePlace) -> Place:
    """Each kind of place in turn."""
    return make_place(request.param)


@pytest.fixture(params=_params(WRITABLE))
def full_place(request: pytest.FixtureRequest, make_place: MakePlace) -> Place:
    """Each kind of place that takes every disposition."""
    return make_place(request.param)


@pytest.fixture(params=FAR)
def far_place(request: pytest.FixtureRequest, make_place: MakePlace) -> Place:
    """Each kind of place that is far away."""
    return make_place(request.param)
