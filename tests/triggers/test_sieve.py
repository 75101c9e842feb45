"""The sieve: what it lets through is what the evaluator would have matched, and what it keeps back is counted alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.event import Event
from triggers.counting import filtered_count
from triggers.evaluator import RuleSet
from triggers.trigger import RunRule, Source, Trigger


@dataclass
class _Record:
    """A record as a stream sensor shows it."""

    value: Any
    type: str = "kafka.record"
    subject: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    match: Mapping[str, str] = field(default_factory=dict)
    id: str = "t#0/0/1"
    sensor: str = "s"
    source: str = "kafka://t"
    time: int | None = 1_800_000_000_000_000

    def data(self) -> Any:
        return self.value

    def event(self, uid: str) -> Event:
        return Event(
            sensor=self.sensor,
            id=uid,
            uid=uid,
            source=self.source,
            type=self.type,
            received_at=1,
            subject=self.subject,
            time=self.time,
            data=orjson.dumps(self.value),
            content_type="application/json",
            attributes=self.attributes,
            match=self.match,
        )


def _rules(filters: list[Any], types: tuple[str, ...] = ()) -> RuleSet:
    triggers = {
        f"t{n}": Trigger(
            name=f"t{n}",
            version="v",
            on=(Source(sensor="s", types=types, filter=one),),
            runs=(RunRule(pipeline="p", params={}),),
        )
        for n, one in enumerate(filters)
    }
    return RuleSet(triggers, config_hash="h", concurrency={"p": 1})


_words = st.sampled_from(["a", "b", "ab", "", "ä"])
_atoms = st.one_of(
    st.builds(lambda v: {"exact": {"data.x": v}}, st.one_of(_words, st.integers(0, 2), st.booleans())),
    st.builds(lambda v: {"prefix": {"data.y": v}}, st.sampled_from(["a", "b"])),
    st.builds(lambda v: {"suffix": {"subject": v}}, st.sampled_from(["a", "b"])),
    st.builds(lambda v: {"exact": {"attributes.h": v}}, _words),
    st.builds(lambda v: {"exact": {"time": v}}, st.sampled_from(["2027-01-15T08:00:00Z", "x"])),
)
_filters = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=4,
)
_values = st.one_of(
    st.none(),
    st.lists(st.integers(0, 2), max_size=2),
    st.fixed_dictionaries(
        {}, optional={"x": st.one_of(_words, st.integers(0, 2), st.booleans(), st.none()), "y": _words}
    ),
)
_records = st.builds(
    _Record,
    value=_values,
    type=st.sampled_from(["kafka.record", "other"]),
    subject=st.one_of(st.none(), _words),
    attributes=st.one_of(st.just({}), st.builds(lambda v: {"h": v}, _words)),
)


@given(
    filters=st.lists(st.one_of(st.none(), _filters), max_size=4),
    types=st.sampled_from([(), ("kafka.record",)]),
    records=st.lists(_records, max_size=6),
)
def test_the_sieve_agrees_with_the_evaluator(
    filters: list[Any], types: tuple[str, ...], records: list[_Record]
) -> None:
    """A record passes exactly if some trigger would fire on its event, and the counts of `filtered` are the same."""
    rules = _rules(filters, types)
    sieve = rules.sieve("s")
    stored = []
    for n, record in enumerate(records):
        event = record.event(f"evt_{n:026}")
        alone = rules.plan([event], 2, {}, lambda prefix: f"{prefix}{0:026}")
        wanted = sieve.wants(record)
        look = sieve.quick(record.type)
        assert wanted is bool(alone.intents)
        assert look is None or look(record.value) or not wanted
        if wanted:
            stored.append(event)
        else:
            sieve.refuse(record.type)

    def filtered(counts: Mapping[tuple[str, str, str], int]) -> dict[str, int]:
        kinds: dict[str, dict[tuple[str, str], int]] = {}
        for (kind, name, outcome), n in counts.items():
            kinds.setdefault(kind, {})[name, outcome] = n
        return {
            name: filtered_count(
                rule.trigger,
                "h",
                candidates=kinds.get("candidates", {}),
                matched=kinds.get("matched", {}),
                dead=kinds.get("dead", {}),
                decided=kinds.get("trigger", {}),
            )
            for name, rule in rules.rules.items()
        }

    everything = rules.plan([r.event(f"evt_{n:026}") for n, r in enumerate(records)], 2, {}, lambda p: f"{p}{0:026}")
    sieved = dict(rules.plan(stored, 2, {}, lambda p: f"{p}{0:026}").counts)
    for (name, configuration), n in sieve.unwanted().items():
        key = ("candidates", name, configuration)
        sieved[key] = sieved.get(key, 0) + n

    assert filtered(sieved) == filtered(everything.counts)


def test_without_triggers_nothing_is_wanted() -> None:
    """Records of a sensor that nobody listens to are not wanted, and no trigger's count moves."""
    sieve = _rules([{"exact": {"data.x": 1}}]).sieve("elsewhere")

    sieve.refuse("kafka.record")

    assert not sieve.wants(_Record({"x": 1}))
    assert sieve.quick("kafka.record")({"x": 1}) is False  # type: ignore[misc]
    assert sieve.unwanted() == {}


_OTHER = [f"other-{n}" for n in range(20)]


@pytest.mark.parametrize(
    ("filters", "no", "maybe"),
    [
        pytest.param(
            [{"exact": {"data.x": "a"}}], [{"x": "b"}, {}, [], None, "a", {"x": ["a"]}], [{"x": "a"}], id="exact"
        ),
        pytest.param([{"exact": {"data.x": True}}], [{"x": 1}, {"x": "true"}], [{"x": True}], id="true is not one"),
        pytest.param([{"exact": {"data.a.b": 1}}], [{"a": 1}, {"a": {"b": "1"}}], [{"a": {"b": 1.0}}], id="deep"),
        pytest.param([{"exact": {"data.a.1": "x"}}], [{"a": ["x"]}], [{"a": ["y", "x"]}], id="into lists"),
        pytest.param([{"prefix": {"data.x": "ab"}}], [{"x": "a"}, {"x": 1}], [{"x": "abc"}], id="prefix"),
        pytest.param([{"suffix": {"data.x": w}} for w in _OTHER], [{"x": "other-"}], [{"x": "no other-19"}], id="many"),
        pytest.param(
            [{"prefix": {"data.x": w}} for w in _OTHER], [{"x": "other-"}], [{"x": "other-7!"}], id="many starts"
        ),
        pytest.param([{"exact": {"data.x": "a"}}, {"prefix": {"data.y": "b"}}], [{"x": "b"}], [{"y": "b"}], id="two"),
    ],
)
def test_a_quick_look_tells_content_apart(filters: list[Any], no: list[Any], maybe: list[Any]) -> None:
    """A look at content alone says no for what no filter can match, and never for what one does."""
    look = _rules(filters).sieve("s").quick("kafka.record")

    assert look is not None
    assert [look(content) for content in no] == [False] * len(no)
    assert [look(content) for content in maybe] == [True] * len(maybe)


@pytest.mark.parametrize("one", [None, {"not": {"exact": {"data.x": 1}}}, {"exact": {"subject": "a"}}])
def test_a_filter_of_more_than_content_has_no_quick_look(one: Any) -> None:
    """Where content alone cannot tell, there is no quick no: neither for other fields nor for filters that negate."""
    assert _rules([{"exact": {"data.x": 1}}, one]).sieve("s").quick("kafka.record") is None
