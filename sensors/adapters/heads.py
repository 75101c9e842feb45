"""Many looks at single objects, a few at a time."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from sensors.adapters.objects import Listed, ObjectSource
from sensors.errors import BadPayload

WIDTH: Final = 16


async def heads(source: ObjectSource, keys: Iterable[str]) -> Mapping[str, Listed | None]:
    """Look at each key once, at most 16 at a time; None where no object is. The first error ends it, and is raised."""
    wanted = list(dict.fromkeys(keys))
    found: dict[str, Listed | None] = {}
    todo = iter(wanted)

    async def look() -> None:
        for key in todo:
            try:
                found[key] = await source.head(key)
            except BadPayload:  # this one cannot be looked at; the others must not wait for it
                found[key] = None

    if len(wanted) == 1:
        await look()
        return found
    tasks = [asyncio.ensure_future(look()) for _ in range(min(WIDTH, len(wanted)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {key: found[key] for key in wanted}
