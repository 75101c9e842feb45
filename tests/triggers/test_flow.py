"""Flow control: repeat policies, lanes and busy pipelines, against a model that knows only one intent at a time."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rules import NOW, counting_uid
from triggers.decision import Outcome
from triggers.flow import Admitted, admit
from triggers.plan import Intent, Plan
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState
from triggers.trigger import Repeat, WhenBusy


def intent(n: int, key: str | None = "k", lane: str | None = None, **fields: object) -> Intent:
    name = RunKeyName("trigger/t", "p", f"trg_{n}" if key is None else key)
    base = Intent(
        trigger="t",
        version="v1",
        trigger_event=f"trg_{n}",
        events=(f"evt_{n}",),
        pipeline="p",
        key=name,
        keyed=key is not None,
        depth=n,
        params={"n": n},
        lane=lane,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def run(
    intents: Sequence[Intent],
    keys: dict[RunKeyName, RunKeyState] | None = None,
    lanes: dict[LaneName, LaneState] | None = None,
    concurrency: int = 16,
) -> Admitted:
    plan = Plan(config_hash="c1", intents=intents, concurrency={"p": concurrency})
    return admit(
        plan, keys or {}, lanes or {}, now=NOW, uid=counting_uid(), mint_span=lambda parent: f"{parent or 'root'}>"
    )


def outcomes(admitted: Admitted) -> list[Outcome]:
    return [decision.outcome for decision in admitted.decisions]


KEY = RunKeyName("trigger/t", "p", "k")


@pytest.mark.parametrize(
    ("repeat", "last", "expected"),
    [
        *((Repeat.SKIP, last, Outcome.DUPLICATE) for last in ("succeeded", "failed", "cancelled", "running", None)),
        *(
            (Repeat.RETRY_FAILED, last, Outcome.DUPLICATE)
            for last in ("succeeded", "running", "queued", "cancelling", None)
        ),
        *((Repeat.RETRY_FAILED, last, Outcome.FIRED) for last in ("failed", "cancelled")),
        *((Repeat.ALWAYS, last, Outcome.FIRED) for last in ("succeeded", "running", "failed", None)),
    ],
)
def test_what_a_used_key_allows(repeat: Repeat, last: str | None, expected: Outcome) -> None:
    """A key used before starts again only as the repeat policy says; a run no longer kept counts as done."""
    admitted = run([intent(1, repeat=repeat)], {KEY: RunKeyState(KEY, 3, "run_old", last)})

    assert outcomes(admitted) == [expected]
    if expected is Outcome.FIRED:
        assert [start.generation for start in admitted.starts] == [4]
        assert admitted.keys == [RunKeyState(KEY, 4, admitted.starts[0].run_uid, "queued")]
    else:
        assert (admitted.starts, admitted.keys) == ([], [])
        assert (admitted.decisions[0].run, admitted.decisions[0].trigger_event) == ("run_old", None)
        assert "generation 3" in admitted.decisions[0].reason


def test_a_new_key_starts_everything_that_belongs_together() -> None:
    """A fired intent gives one trigger event, run, decision, key and span chain that name one another."""
    plan = Plan(config_hash="c1", intents=[intent(1, lane="l", partition="2026")])
    admitted = admit(
        plan,
        {},
        {},
        now=NOW,
        uid=counting_uid(),
        mint_span=lambda parent: f"{parent or 'root'}>",
        spans={"evt_1": "process"},
    )

    [start], [fired], [decision], [key] = admitted.starts, admitted.trigger_events, admitted.decisions, admitted.keys
    assert (start.trigger_event, start.key, start.scope, start.generation, start.depth) == (
        fired,
        "k",
        "trigger/t",
        1,
        1,
    )
    assert (fired.uid, fired.events, fired.params, fired.lane, fired.partition) == (
        "trg_1",
        ("evt_1",),
        {"n": 1},
        "l",
        "2026",
    )
    assert (fired.span, decision.span) == ("process>>", "process>")
    assert (decision.trigger_event, decision.run, key.last_run) == (fired.uid, start.run_uid, start.run_uid)
    assert admitted.counts == {("trigger", "t", "fired"): 1}


def test_several_causes_start_a_trace_of_their_own() -> None:
    """A run caused by several events continues none of their traces."""
    admitted = run([intent(1, events=("evt_1", "evt_2"))])

    assert admitted.trigger_events[0].span == "root>>"


def test_the_default_key_needs_no_row() -> None:
    """Without a key every trigger event starts its own run, and no row is written for it."""
    admitted = run([intent(1, key=None), intent(2, key=None)])

    assert (outcomes(admitted), admitted.keys) == ([Outcome.FIRED, Outcome.FIRED], [])
    assert [start.key for start in admitted.starts] == ["trg_1", "trg_2"]


def test_two_intents_of_one_plan_share_their_key() -> None:
    """The second intent with a key sees the first one's run although nothing is stored yet."""
    admitted = run([intent(1), intent(2)])

    assert outcomes(admitted) == [Outcome.FIRED, Outcome.DUPLICATE]
    assert admitted.decisions[1].run == admitted.starts[0].run_uid


LANE, WHOLE = LaneName("p", "l"), LaneName("p", "")


def lanes(*, active: tuple[str, ...] = (), queued: tuple[str, ...] = ()) -> dict[LaneName, LaneState]:
    return {name: LaneState(name, active, queued) for name in (LANE, WHOLE)}


def test_queue_never_refuses() -> None:
    """With `queue` an occupied lane changes nothing: the run waits in line."""
    admitted = run([intent(1, lane="l"), intent(2, key=None, lane="l")], lanes=lanes(active=("run_a",)), concurrency=1)

    assert (outcomes(admitted), len(admitted.starts)) == ([Outcome.FIRED, Outcome.FIRED], 2)


def test_skip_names_the_run_in_the_way_and_keeps_the_key_free() -> None:
    """With `skip` an occupied lane gives a decision that names its run; the key is not used up."""
    admitted = run([intent(1, lane="l", when_busy=WhenBusy.SKIP)], lanes=lanes(active=("run_a",)))

    assert (outcomes(admitted), admitted.decisions[0].run, admitted.keys) == ([Outcome.SKIPPED_BUSY], "run_a", [])


def test_a_burst_is_skipped_beyond_the_pipelines_concurrency() -> None:
    """Runs started by the same plan count: of five at once with room for two, three are skipped."""
    admitted = run([intent(n, key=None, when_busy=WhenBusy.SKIP) for n in range(5)], lanes=lanes(), concurrency=2)

    assert outcomes(admitted) == [Outcome.FIRED] * 2 + [Outcome.SKIPPED_BUSY] * 3


def test_coalesce_merges_into_the_one_that_waits() -> None:
    """With `coalesce` the first event behind a running run starts one that waits; later ones are merged into it."""
    burst = [intent(n, key=f"k{n}", lane="l", when_busy=WhenBusy.COALESCE) for n in range(3)]
    admitted = run(burst, lanes=lanes(active=("run_a",)))

    [start] = admitted.starts
    assert outcomes(admitted) == [Outcome.FIRED, Outcome.COALESCED, Outcome.COALESCED]
    assert admitted.coalesce == [(start.run_uid, ("evt_1",), {"n": 1}), (start.run_uid, ("evt_2",), {"n": 2})]
    assert [key.last_run for key in admitted.keys] == [start.run_uid] * 3
    assert [decision.run for decision in admitted.decisions] == [start.run_uid] * 3


def test_cancel_running_replaces_the_lane() -> None:
    """With `cancel_running` all that runs or waits in the lane is asked to stop, and the new run starts."""
    state = lanes(active=("run_a",), queued=("run_b",))
    admitted = run([intent(1, lane="l", when_busy=WhenBusy.CANCEL_RUNNING)], lanes=state)

    assert ([uid for uid, _ in admitted.cancels], outcomes(admitted)) == (["run_a", "run_b"], [Outcome.FIRED])


def test_cancel_running_leaves_other_lanes_alone() -> None:
    """In a full pipeline the newest of a lane waits: it is no reason to stop what is the newest of another."""
    full = {WHOLE: LaneState(WHOLE, ("run_a",), ("run_b",)), LaneName("p", "l"): LaneState(LaneName("p", "l"))}
    admitted = run([intent(1, lane="l", when_busy=WhenBusy.CANCEL_RUNNING)], lanes=full, concurrency=2)

    assert admitted.cancels == []
    assert len(admitted.starts) == 1
    assert "waits: pipeline p has 2 runs under way or waiting of 2 at once" in admitted.decisions[0].reason


def test_cancel_running_without_a_lane_makes_just_enough_room() -> None:
    """Without a lane the oldest runs of a full pipeline are asked to stop, no more than needed."""
    state = lanes(active=("run_a", "run_b"))
    admitted = run([intent(1, when_busy=WhenBusy.CANCEL_RUNNING)], lanes=state, concurrency=2)

    assert [uid for uid, _ in admitted.cancels] == ["run_a"]


def test_a_run_replaced_in_its_own_plan_frees_its_key() -> None:
    """A run started and replaced within one plan is cancelled, so that its key may be retried."""
    intents = [
        intent(1, lane="l", when_busy=WhenBusy.CANCEL_RUNNING),
        intent(2, key="k2", lane="l", when_busy=WhenBusy.CANCEL_RUNNING),
    ]
    admitted = run([*intents, intent(3, lane="l", when_busy=WhenBusy.CANCEL_RUNNING)], lanes=lanes())

    first, second, third = admitted.starts
    assert [uid for uid, _ in admitted.cancels] == [first.run_uid, second.run_uid]
    assert (third.key, third.generation) == ("k", 2)


intents_strategy = st.lists(
    st.builds(
        lambda key, lane, repeat, busy: (key, lane, repeat, busy),
        st.sampled_from(["a", "b", None]),
        st.sampled_from(["x", "y", None]),
        st.sampled_from(list(Repeat)),
        st.sampled_from(list(WhenBusy)),
    ),
    max_size=12,
)


@given(intents_strategy, st.integers(1, 4), st.dictionaries(st.sampled_from("ab"), st.sampled_from(["queued", "running", "succeeded", "failed", "cancelled"])))  # fmt: skip  # noqa: E501
def test_one_plan_is_as_good_as_many(
    asked: list[tuple[str | None, str | None, Repeat, WhenBusy]], limit: int, old: dict[str, str]
) -> None:
    """Admitting intents together gives the same as one transaction for each, with the rows re-read in between."""
    intents = [intent(n, key, lane, repeat=repeat, when_busy=busy) for n, (key, lane, repeat, busy) in enumerate(asked)]
    names = {key: RunKeyName("trigger/t", "p", key) for key in "ab"}
    keys = {names[key]: RunKeyState(names[key], 1, f"run_{key}", state) for key, state in old.items()}
    waiting = tuple(f"run_{key}" for key, state in old.items() if state == "queued")
    active = tuple(f"run_{key}" for key, state in old.items() if state == "running")
    stored_lanes = {
        WHOLE: LaneState(WHOLE, active, waiting),
        **{LaneName("p", lane): LaneState(LaneName("p", lane)) for lane in "xy"},
    }

    together = admit(
        Plan(config_hash="c1", intents=intents, concurrency={"p": limit}),
        keys, stored_lanes, now=NOW, uid=counting_uid(), mint_span=str,
    )  # fmt: skip
    uid = counting_uid()
    apart: list[tuple[Outcome, str | None]] = []
    for one in intents:
        plan = Plan(config_hash="c1", intents=[one], concurrency={"p": limit})
        step = admit(plan, keys, stored_lanes, now=NOW, uid=uid, mint_span=str)
        apart += [(decision.outcome, decision.run) for decision in step.decisions]
        keys, stored_lanes = write(step, keys, stored_lanes)

    assert [(decision.outcome, decision.run) for decision in together.decisions] == apart
    assert {key.name: key for key in together.keys}.items() <= keys.items()


def write(
    step: Admitted, keys: dict[RunKeyName, RunKeyState], stored: dict[LaneName, LaneState]
) -> tuple[dict[RunKeyName, RunKeyState], dict[LaneName, LaneState]]:
    """Do to the rows what a store does: a cancelled run that waits ends at once, one under way is on its way out."""
    keys = {**keys, **{key.name: key for key in step.keys}}
    for start in step.starts:
        for name in {LaneName("p", start.trigger_event.lane or ""), WHOLE}:
            stored = {**stored, name: replace(stored[name], queued=(*stored[name].queued, start.run_uid))}
    for gone, _ in step.cancels:
        waits = gone in stored[WHOLE].queued
        state = "cancelled" if waits else "cancelling"
        keys = {n: replace(k, last_state=state) if k.last_run == gone else k for n, k in keys.items()}
        stored = {
            name: LaneState(
                name, tuple(r for r in lane.active if r != gone), tuple(r for r in lane.queued if r != gone)
            )
            for name, lane in stored.items()
        }
    return keys, stored


@given(st.lists(st.tuples(st.sampled_from(["start", "succeeded", "failed", "cancelled", "running"]), st.sampled_from(list(Repeat))), max_size=15))  # fmt: skip  # noqa: E501
def test_repeat_policies_keep_their_word_over_time(steps: list[tuple[str, Repeat]]) -> None:
    """Over any history of one key: skip never a second, retry_failed only after failure, always every time."""
    state = RunKeyState(KEY)
    for n, (step, repeat) in enumerate(steps):
        if step != "start":
            state = replace(state, last_state=step if state.generation else None)
            continue
        admitted = run([intent(n, repeat=repeat)], {KEY: state})
        failed = state.last_state in ("failed", "cancelled")
        allowed = state.generation == 0 or repeat is Repeat.ALWAYS or (repeat is Repeat.RETRY_FAILED and failed)

        assert len(admitted.starts) == allowed
        state = admitted.keys[0] if admitted.keys else state
        assert state.generation == (admitted.starts[0].generation if allowed else state.generation)
