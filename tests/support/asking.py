"""Asking an ASGI application as a client on this machine would."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx

from sensors.clock import SystemClock
from tests.support.house import FakeHouse
from tidegate.api.app import create_app
from tidegate.api.auth import Auth
from tidegate.tokens import TokenBook

HERE = "http://127.0.0.1:8080"


@asynccontextmanager
async def client_of(
    house: FakeHouse, listen: str = "127.0.0.1:8080", **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve `house` in this process as if bound to `listen`."""
    auth = Auth.for_listen(listen, TokenBook(house.real_store, SystemClock(), fresh=0.0))
    app = create_app(house, auth=auth)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=HERE, **settings) as client:
        yield client
