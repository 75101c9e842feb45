"""A house behind a real HTTP server on a free loopback port, on a thread of its own: for clients that block."""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from sensors.clock import SystemClock
from tests.support.house import FakeHouse, open_house
from tidegate.api.app import create_app
from tidegate.api.auth import Auth
from tidegate.api.stream import RunWatcher
from tidegate.tokens import TokenBook

T = TypeVar("T")


class Served:
    """A running server. `do` runs a coroutine on its loop and returns what came out."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop, house: FakeHouse, watcher: RunWatcher) -> None:
        self.url = url
        self.watcher = watcher
        self.house = house
        self._loop = loop

    def do(self, work: "Coroutine[Any, Any, T]") -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


@contextmanager
def serve_house(folder: Path, listen: str = "127.0.0.1:8080", url: str = "memory:") -> Iterator[Served]:
    """Serve a fresh house, judged as if bound to `listen`, until the block ends."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    started: threading.Event = threading.Event()
    kept: dict[str, Any] = {}

    async def run() -> None:
        async with open_house(folder, url) as house:
            auth = Auth.for_listen(listen, TokenBook(house.real_store, SystemClock(), fresh=0.0))
            watcher = RunWatcher(house, every=0.05)
            config = uvicorn.Config(create_app(house, auth=auth, watcher=watcher), log_level="error", lifespan="on")
            server = uvicorn.Server(config)
            serving = asyncio.ensure_future(server.serve(sockets=[sock]))
            while not server.started:
                await asyncio.sleep(0.005)
            kept.update(house=house, watcher=watcher, loop=asyncio.get_running_loop(), server=server)
            started.set()
            await serving

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    if not started.wait(20):
        raise AssertionError("the server did not start")
    try:
        yield Served(address, kept["loop"], kept["house"], kept["watcher"])
    finally:
        kept["server"].should_exit = True
        thread.join(20)
        sock.close()
