"""Reading a source once more, beside its sensor: from a moment on, by a reader that knows of nothing before."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from sensors.batch import ObjectAction, SeenObject
from sensors.kind import SensorOptions
from sensors.ports import Owned
from sensors.units import StartAt


def started_at(options: SensorOptions, since: int) -> SensorOptions:
    """Return options whose history starts at a moment (UTC microseconds).

    Where the source cannot tell how old something is (an API without `high`), it starts at the beginning.
    """
    if not isinstance(getattr(options, "start", None), StartAt):
        return options
    ageless = "high" in type(options).model_fields and getattr(options, "high", None) is None
    return options.model_copy(update={"start": StartAt("beginning") if ageless else StartAt("time", at=since)})


class NothingKnown:
    """A lookup that remembers nothing, owns nothing for anyone, and has nothing to be done."""

    async def own(self, shards: Sequence[str]) -> Mapping[str, Owned]:
        """Lend shards that nobody else hears of."""
        return {shard: Owned(shard, 0, None) for shard in shards}

    async def seen(self, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        """Return nothing."""
        return {}

    async def seen_after(self, key: str, limit: int, prefix: str = "") -> Sequence[SeenObject]:
        """Return nothing."""
        return ()

    async def seen_range(self, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
        """Return nothing."""
        return ()

    async def known(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    async def unfinished(self, events: Sequence[str]) -> AbstractSet[str]:
        """Return nothing."""
        return frozenset()

    async def due_actions(self, limit: int) -> Sequence[ObjectAction]:
        """Return nothing."""
        return ()

    async def open_actions(self, keys: Sequence[str]) -> Mapping[str, Sequence[ObjectAction]]:
        """Return nothing."""
        return {}
