"""One thread for the blocking calls of one sensor: they go one at a time, and a hung one costs that thread only."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class OffLoop:
    """Runs functions in order on a thread of its own, made at the first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._last: asyncio.Future[object] | None = None

    @property
    def busy(self) -> bool:
        """Say whether a call has not returned, perhaps one that nobody awaits any more."""
        return self._last is not None and not self._last.done()

    async def do(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run and return. When the caller is cancelled the call goes on, and the next one waits for it."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        future = asyncio.get_running_loop().run_in_executor(self._pool, lambda: fn(*args, **kwargs))
        future.add_done_callback(_read_error)
        self._last = future  # type: ignore[assignment]  # only ever asked whether it is done
        return await asyncio.shield(future)

    async def rest(self, seconds: float) -> bool:
        """Wait at most that long for the last call to return; say whether it did."""
        if self._last is not None and not self._last.done():
            await asyncio.wait({self._last}, timeout=seconds)
        return not self.busy

    def close(self) -> None:
        """Let the thread end when its last call returns."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


def _read_error(future: "asyncio.Future[T]") -> None:
    if not future.cancelled():
        future.exception()
