"""A step of completeness over objects in memory, with what a sensor does around it: scans, hints, memory, restarts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensors.adapters.completeness import make_completeness
from sensors.adapters.completeness_options import CompletenessOptions
from sensors.adapters.object_steps import Completeness, CompleteSet, Judged
from sensors.adapters.objects import Listed
from sensors.batch import Cursor, SeenObject
from sensors.kind import SensorContext
from sensors.listing import Entry, compare, vanished
from sensors.patterns import compile_pattern
from sensors.testing import VirtualClock
from tests.support.object_source import MemoryObjects


class Crashed(Exception):
    """The process ended before something became durable."""


def options(**given: Any) -> CompletenessOptions:
    """Return options as of a configuration that says only these."""
    return CompletenessOptions.model_validate({"start": "beginning", **given})


def field_of(text: str, names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Any]:
    """Compile `body.a.b`, which is all that these tests need of an expression language."""
    first, *rest = text.split(".")
    assert first in names

    def evaluate(values: Mapping[str, Any]) -> Any:
        value = values[first]
        for name in rest:
            value = value[name]
        return value

    return evaluate


@dataclass
class Completing:
    """A step and its world. `options` are as in a configuration."""

    options: dict[str, Any]
    clock: VirtualClock = field(default_factory=VirtualClock)
    page_size: int = 1000
    compile: Any = field_of
    memory: dict[str, SeenObject] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)
    ids: dict[str, None] = field(default_factory=dict)
    writes: int = 0
    crash_in: int | None = None  # so many more writes succeed

    def __post_init__(self) -> None:
        self.source = MemoryObjects(self.clock.now, page_size=self.page_size)
        self.put = self.source.put
        self.model = options(**self.options)
        self.pattern = compile_pattern(self.model.pattern) if self.model.pattern else None
        self.sets: list[CompleteSet] = []
        self.step: Completeness
        self.restart()

    def restart(self) -> None:
        """Begin anew from what is durable."""
        context = SensorContext("s", "t", self.clock, Path(), {}, self.compile)
        step = make_completeness(self.model, self.source, context, self.pattern, self.wanted)
        assert step is not None
        self.step = step
        self.step.take_up(self.cursors)

    def wanted(self, listed: Listed) -> bool:
        """Say whether an object counts."""
        if listed.size < self.model.min_size or any(part.startswith("_tmp") for part in listed.key.split("/")):
            return False
        return self.pattern is None or self.pattern.match(listed.key) is not None

    async def scan(self) -> list[str]:
        """List everything and judge it page by page; return the keys of files and subjects of sets that came."""
        told: list[str] = []
        token: str | None = None
        keys: set[str] = set()
        while True:
            page = await self.source.page("", token)
            keys.update(listed.key for listed in page.objects)
            told += await self.look(page.objects)
            token = page.next
            if token is None:
                break
        gone = vanished([o for o in self.memory.values() if o.key not in keys], self.clock.now())  # type: ignore[var-annotated]
        self.memory.update((change.seen.key, change.seen) for change in gone)
        return told

    async def hint(self, *keys: str) -> list[str]:
        """Look at single keys, as notifications have it."""
        found = [await self.source.head(key) for key in keys]
        return await self.look([listed for listed in found if listed is not None])

    async def look(self, objects: Sequence[Listed]) -> list[str]:
        """Judge what was seen."""
        now = self.clock.now()
        entries = [
            Entry(listed.key, listed.token, listed.modified, listed)
            for listed in objects
            if self.wanted(listed) or self.step.marks(listed.key)
        ]
        changes = compare(entries, self.memory, now)
        return self.store(await self.step.judge(changes, now)) if changes else []

    async def wait(self, seconds: float) -> list[str]:
        """Let time pass, and have judged what falls due."""
        await self.clock.advance(seconds)
        told: list[str] = []
        for _ in range(1000):
            due = self.step.next_due()
            if due is None or due > self.clock.monotonic():
                return told
            told += self.store(await self.step.due(self.clock.now()))
        raise AssertionError("what is due never ends")

    def store(self, judged: Judged) -> list[str]:
        """Make durable what came, as a whole; ids that are known are dropped. Raises Crashed as told."""
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.crash_in = None
                raise Crashed
        told: list[str] = []
        for change in judged.ready:
            self.memory[change.seen.key] = change.seen
            if change.id not in self.ids:
                self.ids[change.id] = None
                told.append(change.seen.key)
        for found in judged.sets:
            if found.id not in self.ids:
                self.ids[found.id] = None
                self.sets.append(found)
                told.append(found.subject)
        self.memory.update((seen.key, seen) for seen in judged.seen)
        self.cursors.update((cursor.shard, cursor) for cursor in judged.cursors)
        self.writes += bool(judged.ready or judged.sets or judged.seen or judged.cursors)
        return told

    def manifest(self, key: str, *files: str) -> Listed:
        """Put a manifest."""
        return self.put(key, json.dumps({"files": files}).encode())


def keys(found: CompleteSet) -> list[str]:
    """Return the members' keys."""
    return [member.key for member in found.members]
