"""A compiled control: which stages an event that matched has to pass, under which keys. Pure.

`compile_control` collects every problem. `CompiledControl.ask` answers what can be told from the event alone: that it
is not in the sample, that it came outside of the active windows; else it gives a `Pass`, with which the event enters
the first stage that keeps state, or, where there is none, nothing: the event goes on to the runs of the rule.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sensors.event import Event
from triggers import active, batching, debounce, rate
from triggers.activation import Activation
from triggers.calendar import told
from triggers.compiler import Compiler
from triggers.control import MAX_BATCH, MAX_BYTES, MAX_WINDOWS, Active, Batch, Control, Debounce, Over, Throttle
from triggers.decision import Clause, Outcome
from triggers.errors import EvaluationError, MissingField, Unreadable
from triggers.expression import Expression
from triggers.functions import zone
from triggers.pattern_rule import EVERYTHING
from triggers.rate import goes_on
from triggers.round import Phase, Round
from triggers.scope import EVENT_SCOPE, FLOW_SCOPE
from triggers.stage import Move, Place
from triggers.trigger import Repeat, Trigger
from triggers.view import EventView
from triggers.windows import check_window, is_open
from triggers.wish import CompiledRun, Objection, name_of

Machine = rate.Bucket | active.Door | batching.Batcher | debounce.Damper
WHOLE = ""  # the key of the gate that a trigger has only one of


@dataclass(frozen=True, slots=True)
class Pass:
    """An event that matched enters the flow control of its trigger, at the moment at which it came."""

    trigger: str
    event: Event
    keys: Mapping[Place, str]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The event goes no further; that follows from the event alone."""

    outcome: Outcome
    clause: Clause
    reason: str


@dataclass(frozen=True, slots=True)
class CompiledControl:
    """The stages of a trigger. `machines` are those that keep state, in order; `by` the keys of those that have one."""

    control: Control
    machines: Mapping[Place, Machine]
    by: Mapping[Place, Expression]
    missing_field_is_error: bool

    @property
    def names(self) -> frozenset[str]:
        """Return the variables that its expressions read."""
        return frozenset().union(*(one.names for one in self.by.values()))

    @property
    def gathers(self) -> Place | None:
        """Return the stage that makes one run of several events, None when there is none."""
        match self.control.gather:
            case Batch():
                return Place.BATCH
            case Debounce():
                return Place.DEBOUNCE
        return None

    def ask(self, trigger: str, view: EventView, activation: Activation) -> Pass | Stopped | Objection | None:
        """Let an event enter. None: no stage keeps state, and it goes on to the runs. Raises Unreadable."""
        event = view.event
        stopped = self.stops(event)
        if stopped is not None:
            return stopped
        if not self.machines:
            return None
        keys = self.keys(activation)
        return keys if isinstance(keys, Objection) else Pass(trigger, event, keys)

    def stops(self, event: Event) -> Stopped | None:
        """Say whether an event goes no further, as far as that follows from the event alone."""
        sample, hours = self.control.sample, self.control.active
        if sample is not None and not goes_on(sample, event.sensor, event.id):
            text = f"one of {sample.every}" if sample.every is not None else f"{sample.rate:g} of all"
            place = "sample.every" if sample.every is not None else "sample.rate"
            clause = Clause(place, text, "an event of the sample", "another")
            return Stopped(Outcome.SAMPLED_OUT, clause, f"it is not in the sample ({text})")
        if (
            hours is not None
            and hours.outside is Over.DROP
            and self.control.throttle is None
            and not is_open(hours, event.received_at)
        ):
            return outside(hours, event.received_at)
        return None

    def keys(self, activation: Activation) -> Mapping[Place, str] | Objection:
        """Return the key at each stage. Raises Unreadable."""
        found: dict[Place, str] = {}
        for place in self.machines:
            expression = self.by.get(place)
            if place is Place.ACTIVE:
                found[place] = WHOLE
            elif expression is None:
                found[place] = EVERYTHING
            else:
                try:
                    key = name_of(expression.evaluate(activation))
                    if key is None:
                        raise MissingField("the key is null")
                except Unreadable:
                    raise
                except EvaluationError as error:
                    return self._failed(f"{place}.by", expression.text, error)
                found[place] = key
        return found

    def take(self, place: Place, state: Round, size: int, now: int, uid: Callable[[], str]) -> Move:
        """Let an event come to a stage."""
        match self.machines[place]:
            case rate.Bucket() as bucket:
                return rate.take(bucket, state, now, uid)
            case active.Door() as door:
                return active.take(door, state, now, uid)
            case batching.Batcher() as batcher:
                return batching.take(batcher, state, size, now, uid)
            case debounce.Damper() as damper:
                return debounce.take(damper, state, size, now, uid)

    def look(self, place: Place, state: Round, now: int) -> Move:
        """Look at a stage whose time may have come."""
        match self.machines[place]:
            case rate.Bucket() as bucket:
                return rate.look(bucket, state, now)
            case active.Door() as door:
                return active.look(door, state, now)
            case batching.Batcher():
                return batching.look(state, now)
            case debounce.Damper() as damper:
                return debounce.look(damper, state, now)

    def rearmed(self, state: Round, now: int) -> Round:
        """Return a round that waits for a window, with the moment at which that opens by the calendar as it is now."""
        door = self.machines.get(Place.ACTIVE)
        return active.settled(door, state, now) if isinstance(door, active.Door) else state

    def changed(self, place: Place, state: Round) -> bool:
        """Say whether an open round was gathered under another meaning; what waits at a gate means the same always."""
        gathers = place in (Place.BATCH, Place.DEBOUNCE)
        return gathers and state.phase is Phase.OPEN and state.meaning != self.machines[place].meaning

    def waiting(self, place: Place, state: Round) -> str:
        """Say what an open batch or debounce holds."""
        match self.machines[place]:
            case batching.Batcher() as batcher:
                return batching.waiting_words(batcher, state)
            case debounce.Damper() as damper:
                return debounce.waiting_words(damper, state)
        raise AssertionError(place)

    def clause(self, place: Place, reason: str) -> Clause:
        """Return the clause that keeps an event at a gate, or stops it."""
        throttle, hours = self.control.throttle, self.control.active
        if place is Place.THROTTLE and throttle is not None:
            text = f"{throttle.events}/{throttle.per / 1e6:g}s"
            return Clause("throttle.rate", text, "room for one more event", reason)
        text = "" if hours is None else hours.outside.value
        return Clause("active", text, "a moment within the active windows", reason)

    def _failed(self, where: str, text: str, error: EvaluationError) -> Objection:
        failed = not (isinstance(error, MissingField) and not self.missing_field_is_error)
        reason = f"{where} failed: {error}" if failed else f"{where} does not hold: {error} (missing_field: false)"
        return Objection(Clause(where, text, "a value", str(error)), reason, error=failed)


def outside(hours: Active, at: int) -> Stopped:
    """Say that an event of a moment is outside of the windows."""
    clause = Clause("active", hours.outside.value, "a moment within the active windows", told(at, hours.timezone))
    return Stopped(Outcome.OUT_OF_WINDOW, clause, active.closed_words(hours, at))


def compile_control(trigger: Trigger, control: Control, compiler: Compiler) -> CompiledControl:
    """Compile a control; problems are noted with the compiler."""
    machines: dict[Place, Machine] = {}
    by: dict[Place, Expression] = {}

    def keyed(place: Place, text: str | None) -> None:
        found = compiler.expression(text, f"{place}.by", "string", EVENT_SCOPE, varies=True)
        if found is not None:
            by[place] = found

    _check_sample(control, compiler)
    if control.throttle is not None:
        keyed(Place.THROTTLE, control.throttle.by)
        _check_throttle(control.throttle, compiler)
        machines[Place.THROTTLE] = rate.Bucket(control.throttle, _rate(control.throttle), trigger.version)
    if control.active is not None:
        _check_active(control.active, compiler)
        if control.active.outside is Over.HOLD or control.throttle is not None:
            machines[Place.ACTIVE] = active.Door(control.active, "", trigger.version)
    match control.gather:
        case Batch() as batch:
            keyed(Place.BATCH, batch.by)
            _check_batch(batch, compiler)
            machines[Place.BATCH] = batching.Batcher(batch, _meaning(["batch", batch.by]), trigger.version)
        case Debounce() as quiet:
            keyed(Place.DEBOUNCE, quiet.by)
            _check_debounce(quiet, compiler)
            meaning = _meaning(["debounce", quiet.by, quiet.keep])
            machines[Place.DEBOUNCE] = debounce.Damper(quiet, meaning, trigger.version)
    if control.gather is not None and trigger.each is not None:
        compiler.refuse("`each` stands beside a batch", "each", "take it out: the run gets the list of events")
    return CompiledControl(control, machines, by, trigger.missing_field_is_error)


def compile_gathered_runs(trigger: Trigger, compiler: Compiler) -> list[CompiledRun]:
    """Compile the runs of a batch or debounce, which see `events` and `key`."""
    runs = compiler.runs(trigger.runs, FLOW_SCOPE)
    for run in runs:
        if run.key is not None and run.key.names <= {"key"} and trigger.repeat is not Repeat.ALWAYS:
            compiler.refuse(
                "every batch of one key would have the same run key, and only the first would run",
                f"{run.path}.key",
                "leave it out, name what differs (events[0].id), or say `repeat: always`",
            )
    return runs


def _check_sample(control: Control, compiler: Compiler) -> None:
    sample = control.sample
    if sample is None:
        return
    if (sample.every is None) == (sample.rate is None):
        compiler.refuse("a sample has one measure", "sample", "give one of `every: 10` and `rate: 0.1`")
    if sample.every is not None and not 2 <= sample.every <= 1_000_000:
        compiler.refuse(f"every is {sample.every}", "sample.every", "name a number from 2 to 1000000")
    if sample.rate is not None and not 0 < sample.rate < 1:
        compiler.refuse(f"rate is {sample.rate:g}", "sample.rate", "name a share between 0 and 1, such as 0.1")


def _check_throttle(throttle: Throttle, compiler: Compiler) -> None:
    if not 1 <= throttle.events <= 1_000_000 or not 1 <= throttle.per <= 30 * 86_400_000_000:
        compiler.refuse("the rate is out of bounds", "throttle.rate", "1 to 1000000 events in at most 30d: 10/1m")
    if not 1 <= throttle.burst <= 1_000_000:
        compiler.refuse(f"burst is {throttle.burst}", "throttle.burst", "name a number from 1 to 1000000")


def _check_active(hours: Active, compiler: Compiler) -> None:
    if not 1 <= len(hours.windows) <= MAX_WINDOWS:
        compiler.refuse(f"{len(hours.windows)} windows", "active.windows", f"name 1 to {MAX_WINDOWS}")
    try:
        zone(hours.timezone)
    except ValueError as error:
        compiler.refuse(str(error), "active.timezone", "")
        return
    for number, window in enumerate(hours.windows):
        try:
            check_window(window, hours.timezone)
        except ValueError as error:
            place = "active" if len(hours.windows) == 1 else f"active.windows[{number}]"
            compiler.refuse(str(error), place, 'such as {days: mon-fri, from: "08:00", until: "18:00"}')


def _check_batch(batch: Batch, compiler: Compiler) -> None:
    if not 1 <= batch.count <= MAX_BATCH:
        compiler.refuse(f"count is {batch.count}", "batch.count", f"name a number from 1 to {MAX_BATCH}")
    if not 1 <= batch.bytes <= MAX_BYTES:
        compiler.refuse(f"bytes is {batch.bytes}", "batch.bytes", "name a size up to 64MiB")
    if batch.within < 1:
        compiler.refuse("within is 0", "batch.within", "name a duration such as 5m")


def _check_debounce(quiet: Debounce, compiler: Compiler) -> None:
    if quiet.quiet < 1:
        compiler.refuse("quiet is 0", "debounce.quiet", "name a duration such as 30s")
    if quiet.max_wait < quiet.quiet:
        compiler.refuse("max_wait is shorter than quiet", "debounce.max_wait", "name a longer time, such as 5m")


def _rate(throttle: Throttle) -> str:
    return _meaning([throttle.events, throttle.per, throttle.burst])


def _meaning(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
