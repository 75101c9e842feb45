"""Random lives of folders, manifests and single files: each publication is one event, and nothing incomplete is any."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sensors.errors import BackOff
from tests.support.completing import Completing, Crashed

DAYS = st.sampled_from(["1", "2"])
NAMES = st.sampled_from(["a", "b", "c"])
BODIES = st.sampled_from([b"1", b"22"])


class Life(RuleBasedStateMachine):
    """A step, and what a writer does to the storage. Each step of a life takes a second, so that versions differ."""

    given: ClassVar[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.bench = Completing(self.given, page_size=2)
        self.checked = 0  # how many events were looked at by an invariant

    def teardown(self) -> None:
        """End the loop."""
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run work to its end."""
        return self.loop.run_until_complete(work)

    def tick(self) -> None:
        """Let a second pass."""
        self.run(self.bench.clock.advance(1))

    @rule(day=DAYS, name=NAMES, body=BODIES)
    def put(self, day: str, name: str, body: bytes) -> None:
        """Write a file, or write it again."""
        self.tick()
        self.bench.put(f"o/{day}/{name}.csv", body)

    @rule(day=DAYS, name=NAMES)
    def remove(self, day: str, name: str) -> None:
        """Remove a file."""
        self.tick()
        self.bench.source.remove(f"o/{day}/{name}.csv")

    @rule()
    def scan(self) -> None:
        """Compare everything."""
        self.run(self.bench.scan())

    @rule(data=st.data())
    def hint(self, data: st.DataObject) -> None:
        """Have a notification tell of something, late or again."""
        keys = sorted(self.bench.source.objects)
        if keys:
            self.run(self.bench.hint(data.draw(st.sampled_from(keys))))

    @rule(method=st.sampled_from(["head", "page", "read"]), passing=st.integers(0, 4))
    def fail(self, method: str, passing: int) -> None:
        """Have a scan break off somewhere; what is known in memory is kept."""
        self.bench.source.fail[method] = [*[None] * passing, BackOff("slow down", 1)]
        with contextlib.suppress(BackOff):
            self.run(self.bench.scan())
        self.bench.source.fail.clear()

    @rule(writes=st.integers(0, 3))
    def crash(self, writes: int) -> None:
        """End before something became durable."""
        self.bench.crash_in = writes
        with contextlib.suppress(Crashed):
            self.run(self.bench.scan())
            self.run(self.bench.wait(61))
        self.bench.crash_in = None
        self.bench.restart()

    @rule()
    def restart(self) -> None:
        """Begin anew from what is durable."""
        self.bench.restart()

    @rule(seconds=st.sampled_from([1, 60]))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.run(self.bench.wait(seconds))

    def settle_all(self) -> None:
        """Scan until nothing can come any more."""
        for _ in range(2):
            self.run(self.bench.scan())
            self.run(self.bench.wait(61))


class Folders(Life):
    """Days that a marker publishes."""

    given: ClassVar[dict[str, Any]] = {"pattern": "o/{day}/{name}.csv", "marker": "_SUCCESS", "every": "60s"}

    def __init__(self) -> None:
        super().__init__()
        self.published: set[tuple[str, int]] = set()

    @rule(day=DAYS)
    def publish(self, day: str) -> None:
        """Write the marker, and have it seen before it could be written again."""
        self.tick()
        marker = self.bench.put(f"o/{day}/_SUCCESS", b"")
        self.published.add((f"o/{day}/", marker.modified))

    @rule(day=DAYS)
    def withdraw(self, day: str) -> None:
        """Remove the marker."""
        self.bench.source.remove(f"o/{day}/_SUCCESS")

    @invariant()
    def each_publication_is_one_event_at_most(self) -> None:
        """No set for what was not published, and none twice."""
        told = [(found.subject, found.time) for found in self.bench.sets]
        assert len(told) == len(set(told))
        assert set(told) <= self.published

    @rule()
    def all_that_stands_was_told(self) -> None:
        """After a scan each marker that is there has had its event."""
        self.settle_all()
        told = {(found.subject, found.time) for found in self.bench.sets}
        for key, stored in self.bench.source.objects.items():
            if key.endswith("/_SUCCESS"):
                assert (key.removesuffix("_SUCCESS"), stored.modified) in told


class Listed(Life):
    """Days that a manifest lists."""

    given: ClassVar[dict[str, Any]] = {
        "pattern": "o/{day}/{name}.csv",
        "manifest": {"name": "o/{day}/m.json", "files": "body.files"},
        "every": "60s",
    }

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[tuple[str, int], set[str]] = {}

    @rule(day=DAYS, names=st.sets(NAMES, min_size=1), broken=st.booleans())
    def publish(self, day: str, names: set[str], broken: bool) -> None:
        """Write a manifest that lists files, there or not."""
        self.tick()
        key = f"o/{day}/m.json"
        if broken:
            self.bench.put(key, b"{")
            return
        made = self.bench.manifest(key, *(f"{name}.csv" for name in names))
        self.lists[key, made.modified] = {f"o/{day}/{name}.csv" for name in names}

    @rule(day=DAYS)
    def withdraw(self, day: str) -> None:
        """Remove the manifest."""
        self.bench.source.remove(f"o/{day}/m.json")

    @invariant()
    def each_publication_is_one_complete_event_at_most(self) -> None:
        """A set has exactly the files of its manifest, and comes once."""
        told = [(found.subject, found.time) for found in self.bench.sets]
        assert len(told) == len(set(told))
        for found in self.bench.sets[self.checked :]:  # no rule both writes and judges, so all is still as it was
            assert {member.key for member in found.members} == self.lists[found.subject, found.time]
            assert all(self.bench.source.listed(member.key) == member for member in found.members)
        self.checked = len(self.bench.sets)

    @rule()
    def all_that_stands_was_told(self) -> None:
        """Each manifest whose files are there has had its event; what is broken is trouble, what waits is not seen."""
        self.settle_all()
        told = {(found.subject, found.time) for found in self.bench.sets}
        bench = self.bench
        for key, stored in bench.source.objects.items():
            if not key.endswith("/m.json"):
                continue
            files = self.lists.get((key, stored.modified))
            if files is None:
                assert "cannot be used" in (bench.step.trouble() or "")
            elif files <= bench.source.objects.keys():
                assert (key, stored.modified) in told


class Gated(Life):
    """Single files with a marker each."""

    given: ClassVar[dict[str, Any]] = {"pattern": "o/{day}/{name}.csv", "marker": "{name}.done", "every": "60s"}

    @rule(day=DAYS, name=NAMES)
    def done(self, day: str, name: str) -> None:
        """Write a file's marker."""
        self.tick()
        self.bench.put(f"o/{day}/{name}.done", b"")

    @rule(day=DAYS, name=NAMES)
    def undone(self, day: str, name: str) -> None:
        """Remove a file's marker."""
        self.bench.source.remove(f"o/{day}/{name}.done")

    @invariant()
    def what_was_told_had_a_marker_as_new(self) -> None:
        """No file passes without its marker, and none in a version that is not there."""
        objects = self.bench.source.objects
        for told in list(self.bench.ids)[self.checked :]:  # no rule both writes and judges, so all is still as it was
            key, _, version = told.partition("@")
            assert version.startswith(self.bench.source.listed(key).token)
            assert objects[f"{key.removesuffix('.csv')}.done"].modified >= objects[key].modified
        self.checked = len(self.bench.ids)

    @rule()
    def files_with_a_marker_as_new_were_told(self) -> None:
        """Each version whose marker is not older has passed."""
        self.settle_all()
        memory, objects = self.bench.memory, self.bench.source.objects
        for key, stored in objects.items():
            if not key.endswith(".csv"):
                continue
            marker = objects.get(f"{key.removesuffix('.csv')}.done")
            if marker is not None and marker.modified >= stored.modified:
                assert memory[key].token == stored.listed(key).token


class Resting(Life):
    """Single files that must not have changed for a while."""

    given: ClassVar[dict[str, Any]] = {"pattern": "o/{day}/{name}.csv", "settle": "30s", "every": "60s"}

    @rule()
    def all_that_rests_was_told(self) -> None:
        """After the time each file that stands has had its event, for the version that it is."""
        self.settle_all()
        for key, stored in self.bench.source.objects.items():
            assert f"{key}@{stored.listed(key).token}#{self.bench.memory[key].incarnation}" in self.bench.ids


_SETTINGS = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestFolders = Folders.TestCase
TestFolders.settings = _SETTINGS
TestListed = Listed.TestCase
TestListed.settings = _SETTINGS
TestGated = Gated.TestCase
TestGated.settings = _SETTINGS
TestResting = Resting.TestCase
TestResting.settings = _SETTINGS
