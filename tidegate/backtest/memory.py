"""The memory of a rehearsal over very many events: bounded, the rest on disk or read again from where it came."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import orjson

from sensors.event import Event
from tidegate.store.scratch import ScratchMap, ScratchSet
from triggers.ports import RunKeyName, RunKeyState
from triggers.round import Occurrence, Phase, Round, RoundName

_EVENTS = 2_000
_BYTES = 32 * 1024 * 1024

Fetch = Callable[[Sequence[str]], Mapping[str, Event]]


class EventCache:
    """The events that came last; older ones are fetched. Both sides of a comparison share it."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._kept: OrderedDict[str, Event] = OrderedDict()
        self._bytes = 0

    def put(self, event: Event) -> None:
        """Keep an event for a while."""
        if event.uid in self._kept:
            return
        self._kept[event.uid] = event
        self._bytes += len(event.data or b"")
        while len(self._kept) > 1 and (len(self._kept) > _EVENTS or self._bytes > _BYTES):
            _, gone = self._kept.popitem(last=False)
            self._bytes -= len(gone.data or b"")

    def get(self, names: Sequence[str]) -> Mapping[str, Event]:
        """Return events, as far as they are to be had."""
        found = {name: self._kept[name] for name in names if name in self._kept}
        missing = [name for name in names if name not in found]
        return {**found, **self._fetch(missing)} if missing else found


class ScratchMemory:
    """Implements `triggers.rehearsal.Memory`. A run key is remembered as a number of 64 bits: used, or not."""

    def __init__(self, events: EventCache) -> None:
        self._events = events
        self._rounds: ScratchMap[Round] = ScratchMap(_encoded, _decoded)
        self._keys = ScratchSet()

    def rounds(self, names: Sequence[RoundName]) -> Mapping[RoundName, Round]:
        """Return rounds."""
        found = {name: self._rounds.get(_text(name)) for name in names}
        return {name: state for name, state in found.items() if state is not None}

    def put_rounds(self, rounds: Sequence[Round]) -> None:
        """Keep rounds."""
        for state in rounds:
            if state.phase is Phase.NEW:
                self._rounds.drop(_text(state.name))
            else:
                self._rounds.put(_text(state.name), state)

    def keys(self, names: Sequence[RunKeyName]) -> Mapping[RunKeyName, RunKeyState]:
        """Return run keys."""
        return {name: RunKeyState(name, 1, None, "succeeded") for name in names if hash(name) in self._keys}

    def put_keys(self, states: Sequence[RunKeyState]) -> None:
        """Keep run keys."""
        self._keys.update(hash(state.name) for state in states)

    def events(self, names: Sequence[str]) -> Mapping[str, Event]:
        """Return events."""
        return self._events.get(names)

    def put_event(self, event: Event) -> None:
        """Keep an event."""
        self._events.put(event)

    def close(self) -> None:
        """Let the scratch files go."""
        self._rounds.close()
        self._keys.close()


def _text(name: RoundName) -> str:
    return f"{name.trigger}\0{name.key}"


_FIELDS = tuple(field.name for field in fields(Round) if field.name not in ("name", "phase", "held"))


def _encoded(state: Round) -> bytes:
    held = [[one.part, one.event, one.at, one.depth] for one in state.held]
    plain = [getattr(state, name) for name in _FIELDS]
    return orjson.dumps([state.name.trigger, state.name.key, state.phase.value, held, plain])


def _decoded(text: bytes) -> Round:
    trigger, key, phase, held, plain = orjson.loads(text)
    return Round(
        name=RoundName(trigger, key),
        phase=Phase(phase),
        held=tuple(Occurrence(part=part, event=event, at=at, depth=depth) for part, event, at, depth in held),
        **dict(zip(_FIELDS, plain, strict=True)),
    )
