"""Fixtures of the pipelines stage."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.dispatching import Bench
from tests.support.scripted_engine import ScriptedEngine

MakeBench = Callable[..., Bench]


@pytest.fixture
async def make_bench() -> AsyncIterator[MakeBench]:
    """Make benches whose dispatchers are stopped at the end."""
    made: list[Bench] = []

    def make(engine: ScriptedEngine | None = None) -> Bench:
        bench = Bench() if engine is None else Bench(engine=engine)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        for dispatcher in bench.made:
            await _stop(dispatcher.stop)


async def _stop(stop: Callable[..., Awaitable[None]]) -> None:
    await stop(patience=0)
