"""Doing something with many items, some at a time, in order."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 32  # objects that are looked at, or read, at the same time


async def at_once(do: Callable[[T], Awaitable[R]], items: Collection[T], limit: int = AT_ONCE) -> list[R]:
    """Do something with all items, `limit` at a time; return the results in order. The first error ends it."""
    if not items:
        return []
    places = asyncio.Semaphore(limit)

    async def one(item: T) -> R:
        async with places:
            return await do(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
