"""What sensors may ask of the house while they read: remembered objects, and which events any rule could want."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from sensors.batch import Cursor, ObjectAction, SeenObject
from sensors.ports import Owned, Sieve
from tidegate.rules import RulesInForce
from tidegate.store.tx import Store, Tx


class TakeShards:
    """The write that raises the epochs of shards: their former owners' batches are stale. Items: (sensor, shards)."""

    name = "take_shards"

    def __call__(self, tx: Tx, items: Sequence[tuple[str, tuple[str, ...]]]) -> Sequence[Mapping[str, Owned]]:
        """Take all of them, in sorted order; who takes a shard in the same transaction as others has the next epoch."""
        takers: dict[tuple[str, str], list[int]] = {}
        for index, (sensor, shards) in enumerate(items):
            for shard in dict.fromkeys(shards):
                takers.setdefault((sensor, shard), []).append(index)
        answers: list[dict[str, Owned]] = [{} for _ in items]
        for (sensor, shard), indexes in sorted(takers.items()):
            for index in indexes:
                row = tx.raise_epoch(sensor, shard)
                answers[index][shard] = Owned(shard, row.epoch, Cursor(shard, row.value) if row.value else None)
        return answers


_TAKE = TakeShards()


class StoreLookup:
    """`sensors.ports.Lookup` of one sensor over the store."""

    def __init__(self, store: Store, sensor: str) -> None:
        self._store = store
        self._sensor = sensor

    async def own(self, shards: Sequence[str]) -> Mapping[str, Owned]:
        """Take ownership of shards."""
        return await self._store.submit(_TAKE, (self._sensor, tuple(shards)))

    async def seen(self, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        """Return what is remembered of these keys."""
        return await self._store.read(lambda reader: reader.seen(self._sensor, keys))

    async def seen_after(self, key: str, limit: int, prefix: str = "") -> Sequence[SeenObject]:
        """Return present objects after `key`, in key order."""
        return await self._store.read(lambda reader: reader.seen_after(self._sensor, key, limit, prefix))

    async def seen_range(self, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
        """Return objects of any state with `after` < key <= `upto`, in key order."""
        return await self._store.read(lambda reader: reader.seen_range(self._sensor, after, upto, limit))

    async def due_actions(self, limit: int) -> Sequence[ObjectAction]:
        """Return actions whose time has come, oldest first."""
        return await self._store.read(lambda reader: reader.due_actions(self._sensor, limit))

    async def open_actions(self, keys: Sequence[str]) -> Mapping[str, Sequence[ObjectAction]]:
        """Return the actions that are still to be done to these keys."""
        return await self._store.read(lambda reader: reader.open_actions(self._sensor, keys))

    async def known(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the uids of remembered events by their ids."""
        return await self._store.read(lambda reader: reader.known_events(self._sensor, ids))

    async def unfinished(self, events: Sequence[str]) -> AbstractSet[str]:
        """Return which of these events have a run that has not ended, or a decision yet to be made."""
        return await self._store.read(lambda reader: reader.unfinished_events(events))


class RulesPrefilter:
    """`sensors.ports.Prefilter` of one sensor over the rules in force."""

    def __init__(self, rules: RulesInForce, sensor: str) -> None:
        self._rules = rules
        self._sensor = sensor

    def wants(self, type: str, subject: str | None) -> bool:
        """Return False only when no trigger could match."""
        return self._rules.current.rules.wants(self._sensor, type, subject)

    def sieve(self) -> Sieve:
        """Return the filters in force now."""
        return self._rules.current.rules.sieve(self._sensor)
