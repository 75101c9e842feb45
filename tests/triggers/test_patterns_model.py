"""The machines against the model: whatever comes in whatever order, they conclude the same."""

from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sensors import uid as uids
from tests.support.join_model import Came, CountModel, JoinModel, Looked, SilenceModel, Story
from tests.support.rules import NOW
from triggers.gather import Gathered, Gathering
from triggers.pattern import Absence, Count, Join, Late, Part, Pattern, Source, Take
from triggers.round import Offer, Phase, Round, RoundName
from triggers.rule import compile_rule
from triggers.trigger import RunRule, Trigger

NAME = RoundName("t", "k")
SPAN = 40  # moments lie within so many steps: small enough that everything meets everything


def part(name: str, take: str = "first") -> Part:
    return Part(
        name=name, source=Source(sensor="s", filter={"exact": {"type": name}}), by="event.subject", take=Take(take)
    )


class Engine:
    """The engine over one key: rounds are kept from one step to the next as the store keeps them."""

    def __init__(self, pattern: Pattern) -> None:
        trigger = Trigger(name="t", on=(), runs=(RunRule(pipeline="p"),), pattern=pattern, version="v1")
        rule, errors = compile_rule(trigger)
        assert rule is not None, [str(error) for error in errors]
        self.rule = rule
        self.state = Round(name=NAME)
        self.story = Story()
        self._numbers = count(1)
        self.now = NOW

    def _gathering(self) -> Gathering:
        return Gathering(
            {"t": self.rule},
            {NAME: self.state},
            now=self.now,
            uid=lambda prefix: uids.make_uid(prefix, NOW, next(self._numbers).to_bytes(10, "big")),
            config_hash="c",
        )

    def came(self, *events: Came) -> None:
        """Let events come in one transaction."""
        desk = self._gathering()
        quiet = isinstance(self.rule.pattern and self.rule.pattern.pattern, Absence)
        for one in events:
            desk.offer(Offer(name=NAME, part=one.part, event=one.event, at=one.at, received=one.received, quiet=quiet))
        self._note(desk.gathered())

    def looked(self, at: int, deaf: tuple[tuple[int, int], ...] = ()) -> None:
        """Let the timer of the key ring, if it is due."""
        if self.state.phase is not Phase.OPEN or self.state.due > at:
            return
        self.now = at
        desk = self._gathering()

        def watched(since: int, until: int) -> int:
            return (until - since) - sum(max(0, min(until, end) - max(since, start)) for start, end in deaf)

        desk.ring(NAME, self.state.uid, watched)
        self._note(desk.gathered())

    def _note(self, out: Gathered) -> None:
        for state in out.rounds:
            self.state = state
        for firing in out.firings:
            self.story.fired.append((frozenset(firing.verdict.events), frozenset(firing.verdict.missing)))
        for alarm in out.alarms:
            if alarm.change == "overdue":
                pair = (frozenset(alarm.verdict.events), frozenset(alarm.verdict.missing))
                self.story.overdue.append(pair)
        for decision in out.decisions:
            self.story.decided.extend((decision.outcome.value, event) for event in decision.events)
        self.story.open = (
            frozenset(one.event for one in self.state.held) if self.state.phase is Phase.OPEN else frozenset()
        )


def told(story: Story) -> tuple[Any, ...]:
    return (story.fired, story.overdue, sorted(story.decided), story.open)


def histories(parts: tuple[str, ...], *, by_event: bool = False) -> st.SearchStrategy[list[Any]]:
    """Random histories: time goes on, jumps back now and then, events come in bunches, looks come between."""
    step = st.tuples(
        st.sampled_from([*parts, *parts, "look"]),
        st.integers(-3, 12),  # how far time moves before it
        st.integers(-25, 5) if by_event else st.just(0),  # the source's time, against ours
    )
    return st.lists(step, max_size=25)


def written(steps: list[Any]) -> list[Came | Looked]:
    now, history = NOW, list[Came | Looked]()
    for number, (what, moves, shift) in enumerate(steps):
        now += moves
        if what == "look":
            history.append(Looked(now))
        else:
            history.append(Came(what, uids.make_uid("evt_", NOW, number.to_bytes(10, "big")), now + shift, now))
    return history


def play(engine: Engine, history: list[Came | Looked], bunches: list[int]) -> Story:
    """Play a history; events that follow one another come in bunches of those sizes, as group commits bring them."""
    sizes, bunch = iter(bunches), list[Came]()
    room = next(sizes, 1)
    for moment in history:
        if isinstance(moment, Came):
            bunch.append(moment)
            if len(bunch) >= room:
                engine.came(*bunch)
                bunch, room = [], next(sizes, 1)
            continue
        engine.came(*bunch)
        bunch = []
        engine.looked(moment.at)
    engine.came(*bunch)
    return engine.story


TAKES = st.sampled_from(["first", "latest", "all"])
BUNCHES = st.lists(st.integers(1, 5), max_size=25)


@settings(max_examples=400, deadline=None)
@given(
    st.booleans().flatmap(lambda by_event: st.tuples(st.just(by_event), histories(("a", "b", "c"), by_event=by_event))),
    st.tuples(TAKES, TAKES, TAKES),
    st.integers(1, 3),
    st.integers(1, SPAN),
    st.sampled_from(["ignore", "refire", "alert"]),
    st.sampled_from([0, 15, 10**15]),
    BUNCHES,
)
def test_joins_do_what_the_model_says(
    timed: tuple[bool, list[Any]],
    takes: tuple[str, str, str],
    need: int,
    within: int,
    late: str,
    remember: int,
    bunches: list[int],
) -> None:
    """Any parts, in any order, twice, late, with the clock going back: the same firings and the same decisions."""
    by_event, steps = timed
    lateness = 7 if by_event else None
    history = written(steps)
    names = ("a", "b", "c")
    join = Join(
        parts=tuple(part(name, take) for name, take in zip(names, takes, strict=True)),
        within=within,
        require=str(need),
        late=Late(late),
        remember=remember,
        lateness=lateness,
    )
    model = JoinModel(names, within, dict(zip(names, takes, strict=True)), need, late, remember, lateness)

    assert told(play(Engine(join), history, bunches)) == told(model.tell(history))


@settings(max_examples=300, deadline=None)
@given(
    st.booleans().flatmap(lambda by_event: st.tuples(st.just(by_event), histories(("a", "b", "c"), by_event=by_event))),
    st.integers(1, SPAN),
    st.sampled_from([0, 15]),
    BUNCHES,
)
def test_sequences_do_what_the_model_says(
    timed: tuple[bool, list[Any]], within: int, remember: int, bunches: list[int]
) -> None:
    """Parts count only in their order, by either clock: the same firings and the same decisions."""
    by_event, steps = timed
    lateness = 7 if by_event else None
    history = written(steps)
    names = ("a", "b", "c")
    join = Join(
        parts=tuple(part(name) for name in names), in_order=True, within=within, remember=remember, lateness=lateness
    )
    model = JoinModel(names, within, dict.fromkeys(names, "first"), 3, "ignore", remember, lateness, in_order=True)

    assert told(play(Engine(join), history, bunches)) == told(model.tell(history))


@settings(max_examples=300, deadline=None)
@given(
    st.booleans().flatmap(lambda by_event: st.tuples(st.just(by_event), histories(("a",), by_event=by_event))),
    st.integers(2, 5),
    st.integers(1, SPAN),
    BUNCHES,
)
def test_counts_do_what_the_model_says(
    timed: tuple[bool, list[Any]], reach: int, within: int, bunches: list[int]
) -> None:
    """So many events in any window of that length: the same firings, and what the window passed is said so."""
    by_event, steps = timed
    lateness = 7 if by_event else None
    history = written(steps)
    counting = Count(part=part("a", "all"), reach=reach, within=within, lateness=lateness)

    assert told(play(Engine(counting), history, bunches)) == told(CountModel(reach, within, lateness).tell(history))


DEAF = st.lists(st.tuples(st.integers(0, 150), st.integers(1, 30)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(histories(("a", "b")), st.booleans(), st.integers(1, SPAN), DEAF)
def test_silences_do_what_the_model_says(
    steps: list[Any], after: bool, silence: int, spans: list[tuple[int, int]]
) -> None:
    """A silence fires once, after so long in which it could be heard, whenever anybody looks."""
    forward = [(what if after or what == "look" else "a", abs(moves), shift) for what, moves, shift in steps]
    history = written(forward)
    deaf, end = list[tuple[int, int]](), NOW
    for gap, length in spans:
        deaf.append((end + gap, end + gap + length))
        end += gap + length
    absence = Absence(part=part("b" if after else "a"), silence=silence, after=part("a") if after else None)
    engine = Engine(absence)
    model = SilenceModel(silence, after)
    # Every look of the history is one of the engine's, whose own looks are those that a timer would make between.
    whole = _with_timers(history, silence)
    story = _silence(engine, whole, tuple(deaf))

    assert told(story) == told(model.tell(whole, deaf))


def _with_timers(history: list[Came | Looked], silence: int) -> list[Came | Looked]:
    """Put a look at every moment between: the timer rings at the latest then."""
    whole, now = list[Came | Looked](), NOW
    for moment in history:
        at = moment.at if isinstance(moment, Looked) else moment.received
        whole += [Looked(between) for between in range(now, at)]
        now = max(now, at)
        if isinstance(moment, Came):
            whole.append(moment)
    return [*whole, *(Looked(now + more) for more in range(4 * silence))]


def _silence(engine: Engine, history: list[Came | Looked], deaf: tuple[tuple[int, int], ...]) -> Story:
    for moment in history:
        if isinstance(moment, Came):
            engine.came(moment)
        else:
            engine.state = replace(
                engine.state, due=min(engine.state.due, moment.at)
            )  # when to look is tested elsewhere
            engine.looked(moment.at, deaf)
    return engine.story
