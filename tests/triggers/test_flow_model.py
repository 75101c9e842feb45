"""The flow control against the model: whatever comes in whatever order, the same runs and the same decisions."""

from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sensors import uid as uids
from sensors.event import Event
from tests.support.flow_cases import Case, cases
from tests.support.flow_model import STEP, Came, FlowModel, Looked, Story, Together
from tests.support.rules import NOW, rule_set, trigger
from triggers.control import Control, Sample
from triggers.lines import Lines
from triggers.passed import Passed
from triggers.passing import place_of, raw_key
from triggers.rate import goes_on

STEPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "a", "look"]), st.integers(-3, 9), st.integers(0, 5)), max_size=25
)
BUNCHES = st.lists(st.integers(1, 4), min_size=25, max_size=25)


class Engine:
    """The engine over one trigger: what waits is kept from one step to the next as the store keeps it."""

    def __init__(self, control: Control) -> None:
        self.rules = rule_set(trigger("t", control=control))
        self.lines = Lines()
        self.story = Story()
        self.keys: dict[str, str] = {}  # uid of an event -> its key
        self.names: dict[str, str] = {}
        self._numbers = count(1)

    def uid(self, prefix: str) -> str:
        return uids.make_uid(prefix, NOW, next(self._numbers).to_bytes(10, "big"))

    def came(self, events: Sequence[Came], now: int) -> None:
        made = [self._event(one) for one in events]
        plan = self.rules.plan(made, now, {}, self.uid)
        for intent in plan.intents:
            self._fired(intent.events)
        self._note(self.lines.enter(self.rules.rules, plan.passes, now, self.uid), plan.counts)

    def looked(self, at: int) -> None:
        """Let all timers ring that are due, in their order, once more than needed."""
        for _ in range(50):
            due = [name for moment, name in self.lines.due() if moment <= at]
            if not due:
                return
            for name in due:
                self._note(self.lines.ring(self.rules.rules, name, at, self.uid), {})

    def told(self) -> Story:
        for name, queue in self.lines.queues.items():
            outcome = "buffered" if raw_key(name) and place_of(name).value in ("batch", "debounce") else "held"
            self.story.waits |= {(outcome, self.names[one.event]) for one in queue}
        return self.story

    def _event(self, one: Came) -> Event:
        uid = self.uid("evt_")
        self.keys[uid], self.names[uid] = one.key, one.event
        data = b"x" * one.size
        return Event(
            sensor="s", id=one.event, uid=uid, source="/t", type="t", subject=one.key, received_at=one.at, data=data
        )

    def _note(self, out: Passed, counts: Any) -> None:
        for intent in out.intents:
            self._fired(intent.events)
        for firing in out.firings:
            self._fired(firing.verdict.events)
        for (kind, _, outcome), n in (*out.counts.items(), *counts.items()):
            if kind == "trigger" and outcome not in ("buffered", "held"):
                self.story.ended[outcome] += n

    def _fired(self, events: Sequence[str]) -> None:
        names = tuple(self.names[uid] for uid in events)
        self.story.fired.setdefault(self.keys[events[0]], []).append(names)


def written(steps: list[Any], bunches: list[int]) -> list[Together | Looked]:
    """Return a history: time moves on, and now and then back; events come in bunches."""
    now, history, bunch = NOW, list[Together | Looked](), list[Came]()
    sizes = iter(bunches)

    def close() -> None:
        if bunch:
            history.append(Together(tuple(bunch), max(one.at for one in bunch)))
            bunch.clear()

    for number, (what, moves, size) in enumerate(steps):
        now += moves * STEP
        if what == "look":
            close()
            history.append(Looked(now))
        else:
            bunch.append(Came(f"{number:02}", what, size, now))
            if len(bunch) >= next(sizes):
                close()
    close()
    return history


def play(engine: Engine, history: list[Together | Looked]) -> Story:
    for moment in history:
        if isinstance(moment, Looked):
            engine.looked(moment.at)
        else:
            engine.came(moment.events, moment.now)
    return engine.told()


@settings(max_examples=500)
@given(cases(0), STEPS, BUNCHES)
def test_flows_do_what_the_model_says(case: Case, steps: list[Any], bunches: list[int]) -> None:
    """Any combination of stages, any order, clocks that jump, looks that come late: same runs, same decisions."""
    history = written(steps, bunches)

    told, expected = play(Engine(case.control), history), case.model.tell(history)

    assert told.fired == expected.fired
    assert told.ended == expected.ended
    assert told.waits == expected.waits


@settings(max_examples=100)
@given(cases(0), STEPS, BUNCHES)
def test_each_event_is_in_one_place(case: Case, steps: list[Any], bunches: list[int]) -> None:
    """Every event is in exactly one run, or waits in one place, or ended once: nothing is lost and nothing doubled."""
    history = written(steps, bunches)

    story = play(Engine(case.control), history)

    came = sum(len(moment.events) for moment in history if isinstance(moment, Together))
    fired = Counter(name for runs in story.fired.values() for run in runs for name in run)
    waits = Counter(name for _, name in story.waits)
    assert not (fired.keys() & waits.keys())
    assert max((*fired.values(), *waits.values()), default=1) == 1
    assert fired.total() + waits.total() + story.ended.total() == came


@given(st.lists(st.text(max_size=20), unique=True, max_size=50), st.integers(2, 50))
def test_a_sample_follows_from_the_event_alone(ids: list[str], every: int) -> None:
    """Whoever asks gets the same answer, and the events of a smaller share are among those of a larger one."""
    chosen = [one for one in ids if goes_on(Sample(every=every), "s", one)]

    assert chosen == [one for one in ids if goes_on(Sample(every=every), "s", one)]
    assert set(chosen) <= {one for one in ids if goes_on(Sample(rate=1 / every * 1.0001), "s", one)}


def test_a_sample_is_of_the_size_it_says() -> None:
    """Of many events about the asked share goes on: one of ten, a quarter."""
    ids = [str(n) for n in range(20_000)]
    tenth = sum(goes_on(Sample(every=10), "s", one) for one in ids)
    quarter = sum(goes_on(Sample(rate=0.25), "s", one) for one in ids)

    assert 1_850 < tenth < 2_150
    assert 4_800 < quarter < 5_200


def test_the_model_can_disagree() -> None:
    """The comparison can fail: another count tells another story of the same events."""
    history = [Together((Came("1", "a", 1, NOW), Came("2", "a", 1, NOW)), NOW)]

    assert FlowModel(batch=(2, 99, STEP)).tell(history) != FlowModel(batch=(3, 99, STEP)).tell(history)
