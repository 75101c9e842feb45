"""A compiled pattern: which part an event is, under which key; and the machine that takes it from there.

`compile_pattern` collects every problem. `CompiledPattern.ask` yields an `Offer` or an `Objection` per part that an
event belongs to; `step` lets one come, `expire` looks at a key whose time may have come. All pure.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from triggers import absence, count, join
from triggers.activation import Activation, moment
from triggers.calendar import check_cron, time_of_day
from triggers.compiler import CompiledSource, Compiler
from triggers.decision import Clause
from triggers.errors import EvaluationError, MissingField, RuleError, Unreadable
from triggers.expression import Expression
from triggers.functions import zone
from triggers.match import All, Test, compile_predicate
from triggers.pattern import MAX_EVENTS, MAX_PARTS, Absence, Count, Join, Part, Pattern, meaning_of, parts_of, place_of
from triggers.round import Offer, Round, RoundName, Step, forget
from triggers.scope import EVENT_SCOPE, JOIN_SCOPE, OPENS_SCOPE
from triggers.template import compile_or_template
from triggers.trigger import Trigger
from triggers.view import EventView
from triggers.wish import CompiledRun, Objection, name_of

EVERYTHING = "all"  # the key under which parts without `by` meet
_N_OF_M = re.compile(r"(\d{1,4})(?: of (\d{1,4}))?")
_NAME = re.compile(r"[a-z_][A-Za-z0-9_]*")
_OWN_NAMES = frozenset({"counts", "key", "true", "false", "null", "in", "all"})

Machine = join.Gate | count.Counter | absence.Silence


@dataclass(frozen=True, slots=True)
class CompiledPart:
    """One part, ready to be asked."""

    part: Part
    source: CompiledSource
    matches: Test
    when: Expression | None
    by: Expression | None

    @property
    def names(self) -> frozenset[str]:
        """Return the variables that its expressions read."""
        return frozenset().union(*(one.names for one in (self.when, self.by) if one is not None))


@dataclass(frozen=True, slots=True)
class CompiledPattern:
    """A pattern with its parts, its machine, and what runs when a key is overdue."""

    pattern: Pattern
    trigger: str
    machine: Machine
    parts: Sequence[CompiledPart]
    opens: Expression | None
    overdue: Sequence[CompiledRun]
    missing_field_is_error: bool

    @property
    def meaning(self) -> str:
        """Return the name of what the pattern means."""
        return self.machine.meaning

    def ask(self, view: EventView, activation: Activation) -> Iterator[Offer | Objection]:
        """Say which parts an event is, or why it is none: why it is not another part as well says nothing.

        Raises Unreadable.
        """
        event = view.event
        answers = [
            self._ask(part, view, activation)
            for part in self.parts
            if part.source[0] == event.sensor
            and (not part.source[1] or event.type in part.source[1])
            and part.matches(view)
        ]
        is_part = any(isinstance(answer, Offer) for answer in answers)
        for answer in answers:
            if isinstance(answer, Offer) or answer.error or not is_part:
                yield answer

    def _ask(self, compiled: CompiledPart, view: EventView, activation: Activation) -> Offer | Objection:
        path = compiled.source[3]
        where, expression = f"{path}.when", compiled.when
        try:
            if expression is not None and not expression.holds(activation):
                clause = Clause(where, expression.text, "true", "false")
                return Objection(clause, f"{where} does not hold", error=False)
            where, expression = f"{path}.by", compiled.by
            key = EVERYTHING if expression is None else name_of(expression.evaluate(activation))
            if key is None:
                raise MissingField("the key is null")
        except Unreadable:
            raise
        except EvaluationError as error:
            return self._failed(where, "" if expression is None else expression.text, error)
        return self._offer(view, compiled.part, key)

    def _offer(self, view: EventView, part: Part, key: str) -> Offer:
        event, pattern = view.event, self.pattern
        at = event.received_at
        if not isinstance(pattern, Absence) and pattern.lateness is not None and event.time is not None:
            at = min(
                event.time, at
            )  # of what has not happened yet the moment of arrival: a wrong clock opens no window
        return Offer(
            name=RoundName(self.trigger, key),
            part=part.name,
            event=event.uid,
            at=at,
            received=event.received_at,
            depth=event.depth,
            quiet=isinstance(pattern, Absence) and part is pattern.part,
        )

    def _failed(self, where: str, text: str, error: EvaluationError) -> Objection:
        failed = not (isinstance(error, MissingField) and not self.missing_field_is_error)
        reason = f"{where} failed: {error}" if failed else f"{where} does not hold: {error} (missing_field: false)"
        return Objection(Clause(where, text, "a value", str(error)), reason, error=failed)

    def step(self, state: Round, offer: Offer, uid: Callable[[], str]) -> Step:
        """Let an event come to its key."""
        match self.machine:
            case join.Gate() as gate:
                return join.take(gate, state, offer, uid)
            case count.Counter() as counter:
                return count.take(counter, state, offer, uid)
            case absence.Silence() as silence:
                return absence.take(silence, state, offer, uid)

    def expire(self, state: Round, now: int, watched: Callable[[int, int], int]) -> Step:
        """Look at a key whose time may have come; `watched(since, until)`: how long its sensor could be heard."""
        match self.machine:
            case join.Gate() as gate:
                return join.expire(gate, state, now)
            case count.Counter() as counter:
                return count.expire(counter, state, now)
            case absence.Silence() as silence:
                return absence.look(silence, state, now, watched(state.as_of, now)) if now >= state.due else Step(state)

    def open_at(self, state: Round, tick: int, uid: Callable[[], str]) -> Step:
        """Open a key by the calendar."""
        if not isinstance(self.machine, join.Gate):
            raise TypeError("only joins have a calendar")
        return join.open_by_calendar(self.machine, state, tick, uid)

    def opened_anew(self, state: Round, now: int, uid: Callable[[], str]) -> Round:
        """Return a key that was given up because the pattern changed: open again if it was opened by a calendar, and
        has time left."""
        if isinstance(self.machine, join.Gate) and self.machine.join.opens is not None:
            opened = join.open_by_calendar(self.machine, forget(state), state.since, uid).round
            if opened.due > now:
                return opened
        return forget(state)

    def key_at(self, tick: int) -> str:
        """Return the key that the calendar opens at a tick. Raises EvaluationError."""
        if self.opens is None:
            raise EvaluationError("the trigger has no calendar")
        key = name_of(self.opens.evaluate(Activation(None, {"now": moment(tick)}.__getitem__)))
        if key is None:
            raise EvaluationError("opens.key gave null")
        return key

    def waiting(self, state: Round) -> str:
        """Say what an open round waits for."""
        match self.machine:
            case join.Gate() as gate:
                return join.waiting_words(gate, state)
            case count.Counter() as counter:
                return count.waiting_words(counter, state)
            case absence.Silence() as silence:
                return absence.waiting_words(silence, state)

    def missing(self, state: Round) -> tuple[str, ...]:
        """Return the parts that an open round still misses."""
        match self.machine:
            case join.Gate() as gate:
                return join.missing_parts(gate, state)
            case absence.Silence() as silence:
                return (silence.absence.part.name,)
            case count.Counter():
                return ()

    @property
    def watches(self) -> str | None:
        """Return the sensor whose silence is watched, None for a pattern that watches none."""
        return self.pattern.part.source.sensor if isinstance(self.pattern, Absence) else None

    @property
    def silent_at_start(self) -> bool:
        """Say whether a key is waited for although nothing ever came: an absence without `by` or `after`."""
        return isinstance(self.pattern, Absence) and self.pattern.after is None and self.pattern.part.by is None

    @property
    def tells_waiting(self) -> bool:
        """Say whether open rounds have a `waiting` decision: all but those of an absence that holds no events."""
        return not (isinstance(self.pattern, Absence) and self.pattern.after is None)


def compile_pattern(trigger: Trigger, pattern: Pattern, compiler: Compiler) -> CompiledPattern:
    """Compile a pattern; problems are noted with the compiler."""
    parts = []
    for part in parts_of(pattern):
        place = place_of(pattern, part)
        source = compiler.source(part.source, place)
        when = compiler.expression(part.when, f"{place}.when", "bool", EVENT_SCOPE)
        by = compiler.expression(part.by, f"{place}.by", "string", EVENT_SCOPE, varies=True)
        source = source or (part.source.sensor, frozenset(), All((), place), place)
        parts.append(CompiledPart(part, source, compile_predicate(source[2]), when, by))
    _check_keys(pattern, compiler)
    meaning = meaning_of(pattern)
    machine: Machine
    opens = None
    match pattern:
        case Join():
            opens = _check_join(pattern, compiler)
            enough, words = _required(pattern, compiler)
            machine = join.Gate(pattern, enough, words, meaning, trigger.version)
        case Count():
            if not 2 <= pattern.reach <= MAX_EVENTS:
                compiler.refuse(f"reach is {pattern.reach}", "count.reach", f"name a number from 2 to {MAX_EVENTS}")
            machine = count.Counter(pattern, meaning, trigger.version)
        case Absence():
            machine = absence.Silence(pattern, meaning, trigger.version)
    return CompiledPattern(
        pattern=pattern,
        trigger=trigger.name,
        machine=machine,
        parts=tuple(parts),
        opens=opens,
        overdue=tuple(compiler.runs(trigger.overdue_runs, JOIN_SCOPE, "overdue.run")),
        missing_field_is_error=trigger.missing_field_is_error,
    )


def _check_keys(pattern: Pattern, compiler: Compiler) -> None:
    parts = parts_of(pattern)
    keyless = [part for part in parts if part.by is None]
    if keyless and len(keyless) < len(parts):
        path = f"{place_of(pattern, keyless[0])}.by"
        compiler.refuse(f"{keyless[0].name} has no `by`, other parts have one", path, "say by which key it meets them")


def _check_join(pattern: Join, compiler: Compiler) -> Expression | None:
    """Check what a join says about its parts and its time; return the key of its calendar."""
    place = "sequence" if pattern.in_order else "join"
    if not 2 <= len(pattern.parts) <= MAX_PARTS:
        many = f"{len(pattern.parts)} part{'' if len(pattern.parts) == 1 else 's'}"
        compiler.refuse(many, f"{place}.of", f"name 2 to {MAX_PARTS} parts")
    if (pattern.within is None) == (pattern.until is None):
        said = "nothing says" if pattern.within is None else "both `within` and `until` say"
        compiler.refuse(f"{said} when a key is overdue", place, 'give one of `within: 6h` and `until: "06:00"`')
    if pattern.in_order and any(part.take.value == "all" for part in pattern.parts):
        compiler.refuse("a sequence takes one event of each part", f"{place}.of", "take first or latest")
    if pattern.until is not None:
        _try(compiler, f"{place}.until", 'such as "06:00"', time_of_day, pattern.until)
    if not _try(compiler, f"{place}.timezone", "", zone, pattern.timezone):
        return None
    if pattern.opens is None:
        return None
    _try(compiler, f"{place}.opens.cron", "five fields such as `0 6 * * 1-5`", check_cron, pattern.opens.cron)
    if all(part.by is None for part in pattern.parts):
        compiler.refuse("parts have no `by`, yet the calendar opens keys", f"{place}.of", "give each part its `by`")
    return compiler.expression(pattern.opens.key, f"{place}.opens.key", "string", OPENS_SCOPE, varies=True)


def _try(compiler: Compiler, path: str, hint: str, check: Callable[[str], object], text: str) -> bool:
    """Note what a check refuses; say whether it was content."""
    try:
        check(text)
    except ValueError as error:
        compiler.refuse(str(error), path, hint)
        return False
    return True


def _required(pattern: Join, compiler: Compiler) -> tuple[Callable[[Mapping[str, int]], bool], str]:
    """Return what says whether parts suffice, and words for it."""
    place = f"{'sequence' if pattern.in_order else 'join'}.require"
    text = pattern.require.strip()
    if text == "all":
        return (lambda numbers: all(numbers.values())), ""
    if pattern.in_order:
        compiler.refuse("a sequence requires all its parts", place, "leave `require` out, or make it a join")
    found = _N_OF_M.fullmatch(text)
    if found is not None:
        wanted, total = int(found[1]), len(pattern.parts)
        if (found[2] is not None and int(found[2]) != total) or not 1 <= wanted <= total:
            compiler.refuse(f"{text} is required of {total} parts", place, f"write `N of {total}`")
        return (lambda numbers: sum(1 for n in numbers.values() if n) >= wanted), f"{wanted} of {total} required"
    names = [part.name for part in pattern.parts]
    for name in names:
        if not _NAME.fullmatch(name) or name in _OWN_NAMES:
            hint = "letters, digits and _ make a name that expressions can read"
            compiler.refuse(f"part {name} cannot be named in `require`", place, hint)
            return (lambda numbers: all(numbers.values())), ""
    try:
        expression = compile_or_template(
            text, {**dict.fromkeys(names, "bool"), "counts": "map"}, path=place, expect="bool"
        )
    except RuleError as error:
        compiler.errors.append(error)
        return (lambda numbers: all(numbers.values())), ""
    if expression.constant:
        compiler.refuse("require is the same whatever comes", place, "name parts: crm && (erp || fx)")

    def enough(numbers: Mapping[str, int]) -> bool:
        values = {name: n > 0 for name, n in numbers.items()}
        return expression.holds(Activation({**values, "counts": dict(numbers)}))

    return enough, f"required: {text}"
