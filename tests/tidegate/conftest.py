"""The stores on which the house is tested, and the guard: a call that blocks the loop fails the test."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from config.model import ServiceConfig
from tests.support.postgres import Server, fresh_database, running_server
from tests.support.works import Works, open_works

OpenWorks = Callable[..., Any]
PROC_READERS = ("_parse_stat_file", "memory_info", "num_fds", "cpu_times", "num_threads", "wrapper")
OURS = ["sensors", "triggers", "pipelines", "config", "tidegate"]


@pytest.fixture(autouse=True)
def no_blocking() -> Iterator[BlockBuster]:
    """Fail a test in which our code blocks the event loop."""
    with blockbuster_ctx(OURS) as guard:
        for function in guard.functions.values():
            function.can_block_in("tidegate/compose.py", {"compose", "_compose"})  # nobody is served yet
            function.can_block_in("sensors/kinds/files.py", {"__init__"})  # asks where we are, nothing else
            function.can_block_in(
                "psutil/_common.py", {"cat", "bcat", "open_binary", "open_text"}
            )  # /proc waits for nothing
            function.can_block_in("psutil/_pslinux.py", set(PROC_READERS))
        yield guard


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """One PostgreSQL for the session."""
    with running_server() as server:
        yield server


@pytest.fixture
def database(postgres_server: Server) -> Iterator[str]:
    """A database with our schema, for one test."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store; tests whose promise is about PostgreSQL too name it with `indirect`."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    if request.param == "memory":
        return "memory:"
    found: str = request.getfixturevalue("database")
    return found


@pytest.fixture
async def works(url: str) -> AsyncIterator[OpenWorks]:
    """Make works over the store; they are closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def make(config: ServiceConfig, **fields: Any) -> Works:
            return await stack.enter_async_context(open_works(fields.pop("url", url), config, **fields))

        yield make
