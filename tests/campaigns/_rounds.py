"""The rounds: processes are started on the same store and killed, again and again, under traffic that never stops.

How a process dies is planned before it starts: at a named point, after a random time, while it starts, or softly. On
PostgreSQL some rounds have a second process, which is paused past its lease and resumed. At the end one process is left
alone until nothing is left to do, one more is started to show that nothing is done again, and the store is read.
"""

import asyncio
import contextlib
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.campaigns import _house
from tests.campaigns._checker import Violation, acknowledged, check
from tests.campaigns._history import Ack, History, Life
from tests.campaigns._ledger import EventRow, Ledger, Rows, read_ledger, torn_now, unfinished
from tests.campaigns._stores import Place
from tests.campaigns._traffic import Traffic
from tidegate.failpoints import POINTS

_LET_GO = re.compile(r'"time":"(?P<at>[^"]+)".*"message":"run (?P<run>run_\w+) .*"action":"lease_(lapsed|lost)"')
_LEASE, _GRACE = 2.0, 0.5
_REST_WITHIN = 240.0
_STILL = 60.0  # seconds without any progress after which none is expected
_PROVEN_AFTER = 150  # rounds after which every named point must have killed
_PASSES = {"store": 30, "ingest": 15, "dispatch": 15}  # how often a point is passed in a life that is long enough
_RARE = {"ingest.runs": 8, "dispatch.claimed": 8}


@dataclass(frozen=True, slots=True)
class Plan:
    """How one round's process ends.

    `count` is the pass of the point that kills. `after` is seconds after it was ready; for `startup` the share of the
    time that the last start took.
    """

    how: str
    point: str = ""
    count: int = 1
    after: float = 0.5
    workers: bool = False


@dataclass(slots=True)
class Outcome:
    """What a campaign on one store found."""

    store: str
    history: History
    violations: list[Violation]
    ledger: Ledger
    rounds: int = 0
    armed: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def plans(rng: random.Random, *, twins: bool, points: Sequence[str]) -> Iterator[Plan]:
    """Yield plans for ever: each named point in turn, every third round another way to die.

    `twins` makes every eighth a round of two processes; without points every round is one.
    """
    n = 0
    order: list[str] = []
    while True:
        n += 1
        workers = n % 4 == 0
        if twins and (n % 8 == 0 or not points):
            yield Plan("pause", after=0.5 + rng.random(), workers=workers)
        elif n % 12 == 5:
            yield Plan("term", after=0.3 + rng.random(), workers=workers)
        elif n % 6 == 3:
            yield Plan("startup", after=0.3 + 0.8 * rng.random())
        elif n % 3 == 1:
            yield Plan("random", after=1.2 * rng.random(), workers=workers)
        else:
            if not order:
                order = list(points)
                rng.shuffle(order)
            point = order.pop()
            most = _RARE.get(point, _PASSES[point.partition(".")[0]])
            yield Plan("point", point, rng.randint(1, most), workers=workers)


class Campaign:
    """One store's rounds. `launcher` replaces `-m tidegate serve`."""

    def __init__(self, place: Place, folder: Path, seed: int, launcher: Sequence[str] = ()) -> None:
        self.history = History()
        self._place = place
        self._folder = folder
        self._rng = random.Random(seed)
        self._launcher = launcher
        self._traffic = Traffic(self.history, folder, random.Random(seed + 1))
        self._port = _house.free_port()
        self._twin_port = _house.free_port()
        self._numbers = iter(range(1, 1_000_000))
        self._outcome = Outcome(place.name, self.history, [], Ledger())
        self._mourning: list[asyncio.Task[None]] = []
        self._alive: list[_house.Service] = []
        self._checked = 0
        self._start_takes = 1.5

    async def run(self, rounds: int, points: Sequence[str]) -> Outcome:
        """Run the rounds and the final check. Stops early when a round shows a loss."""
        began = time.monotonic()
        (self._folder / "marks").touch()
        await self._traffic.open()
        try:
            await self._rounds(rounds, points)
            await self._rest()
        finally:
            for service in self._alive:
                service.signal(signal.SIGCONT)
                service.signal(signal.SIGKILL)
            await self._traffic.close()
            await asyncio.gather(*self._mourning)
        self._finish()
        self._outcome.seconds = time.monotonic() - began
        return self._outcome

    async def _rounds(self, rounds: int, points: Sequence[str]) -> None:
        coming = plans(self._rng, twins=self._place.name == "postgresql", points=points)
        for number in range(1, rounds + 1):
            plan = next(coming)
            self._traffic.workers = plan.workers
            if plan.how == "pause":
                await self._round_of_two(plan)
            else:
                await self._round(plan)
            self._outcome.rounds = number
            if number % 20 == 0:
                verdict = await asyncio.to_thread(self._place.integrity_after_kill, self._folder / "scratch")
                if verdict != "ok":
                    self._outcome.violations.append(Violation("corrupt", f"after round {number}: {verdict}"))
            if number % 25 == 0 or number == rounds:
                acks, hits = len(self.history.acks), len(self.history.hits)
                print(f"{self._place.name}: round {number}, {acks} acknowledged, {hits} requests", flush=True)
            self._outcome.violations += self._lost_so_far()
            if self._outcome.violations:
                return

    # -- one round ------------------------------------------------------------------------------------------------
    async def _round(self, plan: Plan) -> None:
        service, life = await self._start(plan, f"{plan.point}:{plan.count}" if plan.point else "")
        if plan.how == "startup":
            await service.wait(plan.after * self._start_takes)
        elif await self._ready(service, life):
            await service.wait(3.0 if plan.how == "point" else plan.after)
        if plan.how == "term":
            service.signal(signal.SIGTERM)
            await service.wait(60.0)
        life.fired = plan.how == "point" and service.process.returncode is not None
        await self._end(service, life)
        if plan.point:
            self._outcome.armed[plan.point] += 1
            self._outcome.fired[plan.point] += life.fired
        self._outcome.kills[life.point if life.fired else "missed point" if plan.point else plan.how] += 1

    async def _round_of_two(self, plan: Plan) -> None:
        """Pause the second process past its lease while it works, resume it, and kill either."""
        self._traffic.slow = True
        first, life = await self._start(plan, "")
        await self._ready(first, life)
        second, twin = await self._start(plan, "", replica="twin")
        await self._ready(second, twin)
        await asyncio.sleep(0.6 + plan.after)
        paused = time.time()
        second.signal(signal.SIGSTOP)
        self._traffic.targets.pop(twin.number, None)
        await asyncio.sleep(_LEASE + _GRACE + 0.5 + plan.after)
        twin.pauses.append((paused, time.time() + _LEASE))
        second.signal(signal.SIGCONT)
        await asyncio.sleep(0.5 + plan.after)
        order = [(first, life), (second, twin)]
        self._rng.shuffle(order)
        for service, one in order:
            await self._end(service, one)
            await asyncio.sleep(0.5 * self._rng.random())
        self._traffic.slow = False
        self._outcome.kills["paused, then killed"] += 1

    async def _start(self, plan: Plan, failpoint: str, replica: str = "main") -> tuple[_house.Service, Life]:
        number = next(self._numbers)
        port = self._port if replica == "main" else self._twin_port
        config = _house.configuration(self._folder, self._place.url, port, self._traffic.sink_port)
        path = _house.write_config(self._folder, replica, config)
        life = self.history.lives[number] = Life(number, replica, plan.how, plan.point, time.time())
        service = await _house.start(self._folder, port, path, number, failpoint, self._launcher)
        self._alive.append(service)
        self._traffic.pids[number] = service.pid
        self._traffic.targets[number] = port
        watching = asyncio.create_task(service.watch_children())
        self._mourning.append(asyncio.create_task(self._mourn(service, life, watching)))
        return service, life

    async def _ready(self, service: _house.Service, life: Life) -> bool:
        """Wait until a process answers; False when it died before."""
        answers = await service.ready()
        if answers:
            life.ready = time.time()
            self._start_takes = life.ready - life.started
        return answers

    async def _end(self, service: _house.Service, life: Life) -> None:
        """Kill what still lives, and take it from the targets."""
        self._traffic.targets.pop(life.number, None)
        service.signal(signal.SIGCONT)
        service.signal(signal.SIGKILL)
        await service.process.wait()
        life.ended, life.exit = time.time(), service.process.returncode
        if life.exit not in (-signal.SIGKILL, 0):
            words = service.log.read_text(errors="replace").strip()[-600:]
            self._outcome.violations.append(Violation("exit", f"life {life.number} ended by itself: {words}"))
        self._traffic.pids.pop(life.number, None)
        self._alive.remove(service)

    async def _mourn(self, service: _house.Service, life: Life, watching: "asyncio.Task[None]") -> None:
        """See whether anything that a process started outlives it."""
        await service.process.wait()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        life.orphans = await _house.survivors(service.children)

    # -- checks -------------------------------------------------------------------------------------------------------
    def _lost_so_far(self) -> list[Violation]:
        """Look for losses since the last look, so that they show in the round that caused them."""
        acks = self.history.acks[self._checked :]
        self._checked = len(self.history.acks)
        with self._place.asking() as rows:
            found = [Violation("torn", text) for text in torn_now(rows)]
            return found + list(acknowledged(acks, Ledger(events=_events_of(acks, rows))))

    async def _rest(self) -> None:
        """Let one process finish everything; then start another one, which must find nothing to do."""
        self._traffic.fresh = self._traffic.slow = False
        broken = bool(self._outcome.violations)
        plan = Plan("term")
        service, life = await self._start(plan, "")
        await self._ready(service, life)
        end = time.monotonic() + (20.0 if broken else _REST_WITHIN)
        done, moved = (0, 0, 0), time.monotonic()
        while time.monotonic() < min(end, moved + _STILL) and service.process.returncode is None:
            await asyncio.sleep(0.3)
            with self._place.asking() as rows:
                left = unfinished(rows)
            if not left and not self._traffic.unanswered and not self._missing():
                self.history.calm = time.time()
                break
            if done != (done := (left, len(self.history.acks), len(self.history.hits))):
                moved = time.monotonic()
        self.history.unanswered = self._traffic.unanswered
        await self._stop(service, life)
        if self.history.calm is None:
            return
        service, life = await self._start(plan, "")
        await self._ready(service, life)
        await asyncio.sleep(_LEASE + _GRACE + 0.5)
        await self._stop(service, life)

    def _read_logs(self) -> None:
        """Note what the processes told of leases that they lost."""
        for number in self.history.lives:
            log = self._folder / "logs" / f"life-{number:04}.log"
            for line in log.read_text(errors="replace").splitlines():
                found = _LET_GO.search(line)
                if found is not None:
                    at = datetime.fromisoformat(found["at"]).timestamp()
                    self.history.let_go.setdefault((number, found["run"]), []).append(at)

    def _missing(self) -> bool:
        requested = {(hit.kind, hit.key) for hit in self.history.hits}
        return any(wanted not in requested for wanted in self.history.wanted)

    async def _stop(self, service: _house.Service, life: Life) -> None:
        service.signal(signal.SIGTERM)
        await service.wait(60.0)
        await self._end(service, life)

    def _finish(self) -> None:
        """Read the store and check everything."""
        self._read_logs()
        for line in (self._folder / "marks").read_text().splitlines():
            _, _, mark = line.partition(" ")
            if mark != "-":
                self.history.marks.append(mark)
        with self._place.asking() as rows:
            ledger = read_ledger(rows)
        integrity = self._place.integrity()
        self._outcome.ledger = ledger
        found = check(self.history, ledger)
        unproven = [point for point in POINTS if self._outcome.armed[point] and not self._outcome.fired[point]]
        if self._outcome.rounds >= _PROVEN_AFTER and unproven:
            found.append(Violation("unproven", f"no process ever died at {', '.join(unproven)}"))
        if integrity != "ok":
            found.append(Violation("corrupt", f"the store's integrity check says: {integrity}"))
        self._outcome.violations = sorted({*self._outcome.violations, *found})


def _events_of(acks: Sequence[Ack], rows: Rows) -> list[EventRow]:
    """Read the events that some acknowledgements name."""
    if not acks:
        return []
    wanted = ", ".join(sorted({f"'{ack.uid}'" for ack in acks}))
    found = rows(f"SELECT uid, sensor, id, type, subject, state FROM events WHERE uid IN ({wanted})")
    return [EventRow(*row) for row in found]
