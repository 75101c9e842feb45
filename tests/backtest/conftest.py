"""The databases on which the past is gone over."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import Server, fresh_database, running_server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """One PostgreSQL for the session."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def database(postgres_server: Server) -> Iterator[str]:
    """A database with our schema that tests use one after the other."""
    with fresh_database(postgres_server) as url:
        yield url
