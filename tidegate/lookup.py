"""What sensors may ask of the house while they read: remembered objects, and which events any rule could want."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from sensors.batch import ObjectAction, SeenObject
from tidegate.rules import RulesInForce
from tidegate.store.tx import Store


class StoreLookup:
    """`sensors.ports.Lookup` of one sensor over the store."""

    def __init__(self, store: Store, sensor: str) -> None:
        self._store = store
        self._sensor = sensor

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
