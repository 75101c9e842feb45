"""A state machine that does to a watched place whatever can happen to one, and holds the sensor to its promises.

Writes of all kinds, notifications that come late, twice, out of order or never, scans that stand still in the middle,
calls that fail, processes that die before and after they stored: in any order that hypothesis thinks of. After each
rest the events so far are held against what really happened.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from sensors.adapters.objects import Hint
from sensors.errors import BackOff, NotConnected
from tests.support.object_history import History, Promises
from tests.support.object_watch import SENSOR, Driver
from tests.support.object_worlds import World

KEYS = ("a", "a-b", "d/x", "d/y z+1", "d/ä &=1", "day=2026-01-01/n", "zz")
_keys = st.sampled_from(KEYS)
_few = st.integers(min_value=0, max_value=30)


class MakeWorld(Protocol):
    """Gives an empty world for one example."""

    def __call__(self) -> AbstractContextManager[World]:
        """Open it."""
        ...


class ObjectMachine(RuleBasedStateMachine):
    """One example: a world, a sensor, its memory. `tally` counts what was done, over all examples."""

    def __init__(self, make: MakeWorld, tally: Counter[str]) -> None:
        super().__init__()
        self.tally = tally
        self._opened = make()
        self.world = self._opened.__enter__()
        self.runner = asyncio.Runner()
        self.driver = Driver(self.world.watch, self.world.clock)
        self.history = History()
        self.promises = Promises(self.history)
        self.post: list[Hint] = []
        self.uploads: list[tuple[str, Callable[[], None]]] = []
        self.begun = 0
        self.resting = False
        self.bodies = 0

    @initialize(there=st.lists(_keys, max_size=4, unique=True))
    def begin(self, there: list[str]) -> None:
        """Start the sensor on what is there already."""
        for key in there:
            self._write(key, parts=False, fresh=True)
        self.runner.run(self.driver.start())

    # -- the outside --------------------------------------------------------------------------------------------------
    @rule(key=_keys, parts=st.booleans(), fresh=st.booleans())
    def put(self, key: str, parts: bool, fresh: bool) -> None:
        """Create or overwrite, mostly in the same second; now and then with the very same content."""
        self._write(key, parts=parts, fresh=fresh)

    @rule(key=_keys)
    def begin_upload(self, key: str) -> None:
        """Begin an upload in parts; whatever happens until it is completed."""
        self.bodies += 1
        self.uploads.append((key, self.world.begin_in_parts(key, b"%08d" % self.bodies)))
        self.history.learn(self.world.truth())

    @precondition(lambda self: self.uploads)
    @rule(which=_few)
    def complete_upload(self, which: int) -> None:
        """Complete one: on S3 the object may carry the time at which the upload began."""
        key, complete = self.uploads.pop(which % len(self.uploads))
        self.tally["uploads in parts"] += 1
        complete()
        self._learn(Hint(key, "written", time=self.world.clock.now()))

    @rule(word=st.sampled_from("!mz"))
    def put_many(self, word: str) -> None:
        """Create more than a page holds, before, between and after what is there."""
        for n in range(5):
            self._write(f"{word}/{n}", parts=False, fresh=True)

    @precondition(lambda self: self._there())
    @rule(which=_few, again=st.booleans())
    def remove(self, which: int, again: bool) -> None:
        """Remove, and perhaps write anew at once."""
        there = self._there()
        key = there[which % len(there)]
        self.world.remove(key)
        self._learn(Hint(key, "removed", time=self.world.clock.now()))
        if again:
            self._write(key, parts=False, fresh=False)

    @precondition(lambda self: self._there())
    @rule(which=_few, to=_keys)
    def rename(self, which: int, to: str) -> None:
        """Rename, where that is one act."""
        there = self._there()
        key = there[which % len(there)]
        if key != to and self.world.rename(key, to):
            self.history.renamed.add(key)
            self._learn(Hint(to, "renamed", key, time=self.world.clock.now()))

    @rule()
    def second(self) -> None:
        """Let a second pass."""
        self.runner.run(self.world.clock.advance(1.0))

    # -- notifications ------------------------------------------------------------------------------------------------
    @precondition(lambda self: self.post)
    @rule(which=_few, twice=st.booleans(), keep=st.booleans())
    def deliver(self, which: int, twice: bool, keep: bool) -> None:
        """Let any notification come, once or twice, perhaps another time much later."""
        at = which % len(self.post)
        hint = self.post[at] if keep else self.post.pop(at)
        for _ in range(2 if twice else 1):
            self.world.tell(hint)
            self.tally["notifications"] += 1
        self.resting = False

    @precondition(lambda self: self.post)
    @rule(which=_few)
    def lose(self, which: int) -> None:
        """Lose a notification."""
        self.tally["notifications lost"] += 1
        self.post.pop(which % len(self.post))

    # -- the sensor ---------------------------------------------------------------------------------------------------
    @rule(steps=st.integers(min_value=1, max_value=4))
    def work(self, steps: int) -> None:
        """Let it read a few batches, and stop wherever that is."""
        for _ in range(steps):
            if not self.runner.run(self.driver.step()):
                self._rested()
                return
        self.resting = False

    @rule()
    def poll(self) -> None:
        """Have a scan begin, when none is under way (no precondition: on a real server that hangs on its speed)."""
        if self.resting:
            self._poll()

    @rule(stored=st.booleans())
    def die(self, stored: bool) -> None:
        """Let the process die with a batch in hand, before or after it was stored; another one starts."""
        self.tally["deaths"] += 1
        if self.resting:
            self.begun = self.history.moment
            self.resting = False
        if not self.runner.run(self.driver.step(lose=not stored, unacknowledged=stored)):
            self.runner.run(self.driver.crash())

    @rule(errors=st.lists(st.booleans(), min_size=1, max_size=3))
    def fail(self, errors: list[bool]) -> None:
        """Let the next calls of the source fail: throttled, or gone."""
        failing = [BackOff("slow down", 0.0) if busy else NotConnected("the server is away") for busy in errors]
        if self.world.fail(*failing):
            self.tally["failed calls"] += len(errors)

    @rule()
    def rest(self) -> None:
        """Let it do all that there is to do."""
        self.runner.run(self.driver.rest())
        self._rested()

    @rule()
    def quiet_scan(self) -> None:
        """Have a whole scan made while nothing happens: then everything is known."""
        self._rest_well()
        self._poll()
        self._rest_well()
        self.promises.gone(self._memory(), self.begun)
        truth = self.world.truth()
        known = {key: seen.token for key, seen in self._memory().items() if seen.state == "present"}
        assert known == dict(truth)

    def teardown(self) -> None:
        """Check once more, and that nothing is told twice when nothing happens; then let go."""
        try:
            if self.driver.started:
                for hint in self.post:
                    self.world.tell(hint)
                self.quiet_scan()
                count = len(self.driver.inbox.events)
                self.quiet_scan()
                assert len(self.driver.inbox.events) == count, "told again although nothing happened"
                assert not self.world.mailbox.unsettled, "messages were never settled"
                self.tally["examples"] += 1
                self.tally["events"] += count
        finally:
            try:
                self.runner.run(self.driver.stop())
            finally:
                self.runner.close()
                self._opened.__exit__(None, None, None)

    # -- what the rules are made of -----------------------------------------------------------------------------------
    def _there(self) -> list[str]:
        return sorted(key for key in self.history.lives if self.history.current(key) is not None)

    def _write(self, key: str, *, parts: bool, fresh: bool) -> None:
        self.bodies += fresh
        body = b"%08d" % (self.bodies if fresh else 0)
        if parts:
            self.world.begin_in_parts(key, body)()
        else:
            self.world.put(key, body)
        self._learn(Hint(key, "written", time=self.world.clock.now()))

    def _learn(self, hint: Hint) -> None:
        self.tally["changes"] += 1
        self.history.learn(self.world.truth())
        self.post.append(hint)

    def _poll(self) -> None:
        self.tally["scans"] += 1
        self.runner.run(self.world.clock.advance(1.0))
        self.history.moment += 1
        self.begun = self.history.moment
        self.resting = False
        self.driver.poll()

    def _rest_well(self) -> None:
        self.runner.run(self.driver.rest())
        self._rested()

    def _rested(self) -> None:
        self.resting = True
        self.promises.read(self.driver.inbox.events, self.begun)
        self.promises.complete(self._memory(), self.begun)

    def _memory(self) -> Any:
        return self.driver.inbox.lookup(SENSOR).objects


def check(make: MakeWorld, *, examples: int, steps: int = 30, shrink: bool = True) -> Counter[str]:
    """Run the machine on worlds of one sort, and return what was done.

    `shrink` False where a world is too slow to find the smallest story.
    """
    tally: Counter[str] = Counter()
    phases = [Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else [])]
    given = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(partial(ObjectMachine, make, tally), settings=given)  # type: ignore[arg-type]
    return tally
