"""Judging again: the same rules say the same of a stored event as when it came, and patterns are left alone."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sensors.event import MAX_DEPTH, Event
from tests.support.rules import NOW, plan, rule_set, trigger
from triggers.again import Judged, judge_again
from triggers.control import Batch, Control, Debounce, Sample
from triggers.pattern import Count, Part
from triggers.trigger import Paused, RunRule, Source, Trigger


def _event(data: Any = None, **fields: Any) -> Event:
    content = data if isinstance(data, bytes) else orjson.dumps(data)
    values = {"sensor": "s", "id": "1", "uid": "evt_1", "source": "/s", "type": "t", "received_at": NOW}
    return Event(**{**values, "data": content, "content_type": "application/json", **fields})


def _said(judged: Judged) -> Sequence[tuple[str, str]]:
    return [(refused.outcome, refused.trigger) for refused in judged.refused]


RULES = rule_set(
    trigger("all", run={"params": {"n": "${{ event.data.n }}"}}),
    trigger("big", when="event.data.n > 5", run={"key": "string(event.data.n)", "partition": "event.subject"}),
    trigger("each", each="event.data.items", when="item > 2", run={"lane": "string(item)"}),
    trigger("typed", types=("u",), filter={"prefix": {"subject": "a"}}),
    trigger("elsewhere", sensor="other"),
    Trigger(
        name="two",
        on=(Source(sensor="s", filter={"exact": {"subject": "b"}}),),
        runs=(RunRule(pipeline="p"), RunRule(pipeline="q", params={"now": "${{ now }}"})),
    ),
)

EVENTS = st.builds(
    _event,
    st.one_of(
        st.fixed_dictionaries(
            {},
            optional={
                "n": st.one_of(st.integers(-10, 10), st.text(max_size=3)),
                "items": st.lists(st.one_of(st.integers(0, 5), st.none()), max_size=4),
            },
        ),
        st.sampled_from([b"{", b'"\\u0000"', None]),
    ),
    subject=st.sampled_from([None, "a", "ab", "b"]),
    type=st.sampled_from(["t", "u"]),
    depth=st.sampled_from([0, MAX_DEPTH]),
)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_it_says_what_was_said_when_the_event_came(event: Event) -> None:
    """Every run that the evaluator asked for is wished for again, rendered alike; a dead event is unreadable."""
    first = plan(RULES, event)
    judged = judge_again(RULES, event, {})

    asked = [
        (
            one.trigger,
            one.rule,
            one.item,
            one.params,
            one.partition,
            one.lane,
            one.key.key if one.key.key[:4] != "trg_" else None,
        )
        for one in first.intents
    ]
    wished = [
        (trigger_.name, wish.run.position, wish.item, wish.params, wish.partition, wish.lane, wish.key)
        for trigger_, wish in judged.wishes
    ]
    assert wished == asked
    assert judged.readable == (not first.dead)
    assert judged.wishes or judged.refused


@settings(max_examples=100, deadline=None)
@given(EVENTS, st.sampled_from(sorted(RULES.rules)))
def test_one_trigger_alone_says_what_it_says_among_others(event: Event, only: str) -> None:
    """Judged by one trigger only, a readable event has the wishes that this one has among all."""
    whole, alone = judge_again(RULES, event, {}), judge_again(RULES, event, {}, only)
    assume(whole.readable)

    assert alone.wishes == [(one, wish) for one, wish in whole.wishes if one.name == only]
    assert all(refused.trigger in ("", only) for refused in alone.refused)
    assert alone.wishes or alone.refused


@pytest.mark.parametrize("how", list(Paused))
def test_a_paused_trigger_wishes_for_nothing(how: Paused) -> None:
    """Whatever its pause does with new events, a stored one is named as paused, and others go on."""
    judged = judge_again(RULES, _event({"n": 7}), {"all": how})

    assert [one.name for one, _ in judged.wishes] == ["big"]
    assert ("paused", "all") in _said(judged)


def test_patterns_are_named_and_offered_nothing() -> None:
    """A trigger that waits for several events is told apart, with the way to replay it."""
    pattern = Count(part=Part(name="p", source=Source(sensor="s")), reach=2, within=60_000_000)
    judged = judge_again(rule_set(trigger("many", pattern=pattern)), _event({}), {})

    assert _said(judged) == [("pattern", "many")]
    assert "as_was" in judged.refused[0].reason


@pytest.mark.parametrize(
    ("event", "only", "said", "reason"),
    [
        (_event({}, sensor="none"), None, ("unmatched", ""), "no trigger's filter lets through"),
        (_event({}), "elsewhere", ("unmatched", "elsewhere"), "does not listen to type t of sensor s"),
        (_event({}, type="u", subject="b"), "typed", ("filtered", "typed"), "the filter does not match"),
        (_event({}, depth=MAX_DEPTH), "all", ("error", "all"), "a loop?"),
        (_event(b"{"), "big", ("error", ""), "is not the JSON it is said to be"),
        (_event(b'"\\u0000"'), None, ("error", ""), "NUL"),
    ],
)
def test_why_not(event: Event, only: str | None, said: tuple[str, str], reason: str) -> None:
    """What starts nothing says why."""
    judged = judge_again(RULES, event, {}, only)

    assert said in _said(judged)
    assert any(reason in refused.reason for refused in judged.refused), judged.refused


@pytest.mark.parametrize("gather", [Batch(within=60_000_000), Debounce(quiet=1_000_000, max_wait=10_000_000)])
def test_what_gathers_is_left_alone_too(gather: Batch | Debounce) -> None:
    """One event of a batch, or of a debounce, decides nothing; a throttle or a sample does not keep it from running."""
    whole = judge_again(rule_set(trigger("many", control=Control(gather=gather))), _event({}), {})
    assert not whole.wishes
    assert _said(whole) == [("pattern", "many")]
    sampled = judge_again(rule_set(trigger("few", control=Control(sample=Sample(every=1_000)))), _event({}), {})
    assert len(sampled.wishes) == 1
