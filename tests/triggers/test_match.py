"""Filters: what matches, what is refused, and that the index never changes an answer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.event import Event
from tests.support.rules import NOW, plan, rule_set, trigger
from triggers.errors import RuleError
from triggers.group import SensorRules
from triggers.index import FilterIndex
from triggers.match import compile_predicate, parse_filter
from triggers.rule import compile_rule
from triggers.testing import event
from triggers.view import EventView


def matches(raw: Any, one: Event) -> bool:
    return compile_predicate(parse_filter(raw))(EventView(one, NOW))


ORDER = event(
    "s",
    type="object.created",
    subject="orders/dt=1/a.parquet",
    id="id-1",
    time=1_000_000,
    data={"size": 3, "ok": True, "ratio": 0.5, "text": "x", "none": None, "deep": {"er": "y"}, "list": [{"k": "v"}, 2]},
    attributes={"x-team": "blue", "type": "shadow"},
    match={"day": "1"},
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(None, True, id="no filter"),
        pytest.param({"exact": {"type": "object.created"}}, True, id="type"),
        pytest.param({"exact": {"type": "object.created", "subject": "no"}}, False, id="attributes are anded"),
        pytest.param({"exact": {"sensor": "s", "id": "id-1", "source": "/test/s"}}, True, id="envelope"),
        pytest.param({"prefix": {"time": "1970-01-01T00:00:01"}}, True, id="time"),
        pytest.param(
            {"prefix": {"subject": "orders/"}, "suffix": {"subject": ".parquet"}}, True, id="dialects are anded"
        ),
        pytest.param({"suffix": {"subject": ".csv"}}, False, id="suffix"),
        pytest.param({"exact": {"attributes.type": "shadow"}}, True, id="attribute named as an envelope field"),
        pytest.param({"exact": {"x-team": "blue"}}, True, id="extension attribute"),
        pytest.param({"exact": {"match.day": "1"}}, True, id="capture"),
        pytest.param({"exact": {"data.size": 3}}, True, id="number"),
        pytest.param({"exact": {"data.size": 3.0}}, True, id="number of the other kind"),
        pytest.param({"exact": {"data.size": "3"}}, False, id="a number is no text"),
        pytest.param({"exact": {"data.ok": True}}, True, id="true"),
        pytest.param({"exact": {"data.ok": 1}}, False, id="true is not 1"),
        pytest.param({"exact": {"data.size": True}}, False, id="3 is not true"),
        pytest.param({"exact": {"data.deep.er": "y"}}, True, id="path"),
        pytest.param({"exact": {"data.list.0.k": "v"}}, True, id="list element"),
        pytest.param({"exact": {"data.list.7.k": "v"}}, False, id="no such element"),
        pytest.param({"exact": {"data.list.k": "v"}}, False, id="no number in a list"),
        pytest.param({"exact": {"data.none": "x"}}, False, id="null"),
        pytest.param({"prefix": {"data.size": "3"}}, False, id="prefix of a number"),
        pytest.param({"exact": {"data.nope": "x"}}, False, id="absent"),
        pytest.param({"not": {"exact": {"data.nope": "x"}}}, True, id="not absent"),
        pytest.param({"all": [{"exact": {"data.size": 3}}, {"not": {"suffix": {"subject": ".csv"}}}]}, True, id="all"),
        pytest.param({"any": [{"exact": {"data.size": 4}}, {"exact": {"x-team": "blue"}}]}, True, id="any"),
        pytest.param({"any": [{"exact": {"data.size": 4}}, {"exact": {"x-team": "red"}}]}, False, id="none of any"),
        pytest.param({"not": {"any": [{"exact": {"data.size": 4}}, {"exact": {"x-team": "red"}}]}}, True, id="not any"),
    ],
)
def test_matching(raw: Any, expected: bool) -> None:
    """A filter matches as the CloudEvents Subscriptions dialect says; what is absent never does."""
    assert matches(raw, ORDER) is expected


def test_data_that_is_no_map_has_no_fields() -> None:
    """Paths into text, lists or nothing find nothing; text data itself can be compared."""
    text = event("s", data=b"ping", content_type="text/plain")

    assert matches({"exact": {"data": "ping"}}, text)
    assert not matches({"exact": {"data.a": "ping"}}, text)
    assert not matches({"exact": {"data.a": "ping"}}, event("s"))
    assert not matches({"prefix": {"data": "p"}}, event("s", data=b"\x00\xff", content_type="application/octet-stream"))


@pytest.mark.parametrize(
    ("raw", "path", "words"),
    [
        pytest.param({"exakt": {"type": "a"}}, "f.exakt", "did you mean exact?", id="dialect"),
        pytest.param({"sql": "a = 1"}, "f.sql", "there are exact, prefix", id="unknown dialect"),
        pytest.param({"exact": {"subjcet": "a"}}, "f.exact.subjcet", "did you mean subject?", id="near an attribute"),
        pytest.param({"exact": {"body.a": "a"}}, "f.exact.body.a", "did you mean data.body.a", id="unknown path"),
        pytest.param({"exact": {"data.": 1}}, "f.exact.data.", "not a path", id="empty segment"),
        pytest.param({"exact": {"attributes.": "1"}}, "f.exact.attributes.", "write attributes.NAME", id="no name"),
        pytest.param({"exact": {"subject": 5}}, "f.exact.subject", 'quote it: subject: "5"', id="number for text"),
        pytest.param({"exact": {"data.a": None}}, "f.exact.data.a", "not nothing", id="null"),
        pytest.param({"exact": {"data.a": [1]}}, "f.exact.data.a", "not a list", id="list"),
        pytest.param({"prefix": {"data.a": 1}}, "f.prefix.data.a", "compared with text", id="prefix number"),
        pytest.param({"suffix": {"subject": ""}}, "f.suffix.subject", "matches everything", id="empty suffix"),
        pytest.param({"exact": {}}, "f.exact", "takes a mapping", id="empty mapping"),
        pytest.param({}, "f", "a filter is a mapping", id="empty filter"),
        pytest.param("x", "f", "a filter is a mapping", id="text"),
        pytest.param({"all": []}, "f.all", "takes a list", id="empty list"),
        pytest.param({"any": {"exact": {"type": "a"}}}, "f.any", "takes a list", id="mapping for list"),
        pytest.param({"not": [{"exact": {"type": "a"}}]}, "f.not", "a filter is a mapping", id="list for mapping"),
        pytest.param({"all": [{"exact": {"type": "a"}}, {"nope": 1}]}, "f.all[1].nope", "there is no", id="nested"),
    ],
)
def test_a_filter_that_cannot_be_used_names_its_place(raw: Any, path: str, words: str) -> None:
    """A wrong filter is refused at load with the path inside it and a remedy."""
    with pytest.raises(RuleError) as caught:
        parse_filter(raw, "f")

    assert caught.value.path == path
    assert words in f"{caught.value} {caught.value.hint}"


texts = st.sampled_from(["", "a", "ab", "abc", "b", "ba", "x/y", "1"])
values = texts | st.sampled_from([0, 1, 2, 1.0, 0.5, True, False])
attributes = st.sampled_from(["type", "subject", "id", "attributes.k", "match.m", "k"])
paths = st.sampled_from(["data.a", "data.b", "data.b.c", "data.l.0"])
atoms = st.one_of(
    st.dictionaries(attributes, texts, min_size=1, max_size=2).map(lambda raw: {"exact": raw}),
    st.dictionaries(paths, values, min_size=1, max_size=2).map(lambda raw: {"exact": raw}),
    st.tuples(st.sampled_from(["prefix", "suffix"]), attributes | paths, texts.filter(bool)).map(
        lambda t: {t[0]: {t[1]: t[2]}}
    ),
)
filters = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
        st.tuples(inner, inner).map(lambda two: {**two[0], **two[1]}),
    ),
    max_leaves=6,
)
leaves = values | st.none() | st.lists(values, max_size=2) | st.fixed_dictionaries({}, optional={"c": values})
contents = st.none() | st.fixed_dictionaries({}, optional={"a": leaves, "b": leaves, "l": leaves}) | st.lists(values)
maps = st.dictionaries(st.sampled_from(["k", "m"]), texts)
events = st.builds(
    lambda type_, subject, data, own, match: event(
        "s", type=type_, subject=subject, data=data, attributes=own, match=match
    ),
    texts,
    st.none() | texts,
    contents,
    maps,
    maps,
)


@given(st.lists(st.none() | filters, max_size=8), st.lists(events, min_size=1, max_size=4))
def test_the_index_gives_what_trying_every_filter_gives(raws: list[Any], some: list[Event]) -> None:
    """For any filters and events, the index finds exactly the filters that match, in order, each once."""
    predicates = [parse_filter(raw) for raw in raws]
    index = FilterIndex(list(enumerate(predicates)))

    for one in some:
        view = EventView(one, NOW)
        tried = [i for i, predicate in enumerate(predicates) if compile_predicate(predicate)(view)]
        assert index.match(view) == tried


sources = st.lists(
    st.tuples(st.sampled_from(["s", "other"]), st.lists(texts, max_size=2, unique=True), st.none() | filters),
    min_size=1,
    max_size=3,
)


@given(st.lists(sources, min_size=1, max_size=5), events)
def test_groups_give_what_trying_every_source_gives(all_sources: list[list[Any]], one: Event) -> None:
    """Grouped by sensor and type, triggers match exactly as their sources say, and the prefilter loses none."""
    rules = []
    for i, entries in enumerate(all_sources):
        on = [trigger(sensor=name, types=tuple(types), filter=raw).on[0] for name, types, raw in entries]
        rule, errors = compile_rule(trigger(f"t{i}", on=on))
        assert rule is not None, errors
        rules.append(rule)
    group = SensorRules("s", rules)
    view = EventView(one, NOW)

    def sources_of(position: int) -> list[Any]:
        return [s for s in rules[position].sources if s[0] == "s" and (not s[1] or one.type in s[1])]

    candidates = group.candidates(one.type)
    matching = [i for i in range(len(rules)) if any(compile_predicate(s[2])(view) for s in sources_of(i))]
    assert list(candidates.positions) == [i for i in range(len(rules)) if sources_of(i)]
    assert candidates.match(view) == matching
    if matching:
        assert group.wants(one.type, one.subject)


def test_a_prefilter_says_no_where_type_and_subject_tell() -> None:
    """`wants` is False where type or subject alone exclude every trigger, and for sensors nobody listens to."""
    rules = rule_set(
        trigger("a", filter={"exact": {"type": "t1"}, "prefix": {"subject": "in/"}}),
        trigger("b", types=("t2",), filter={"not": {"suffix": {"subject": ".tmp"}}}),
        trigger("c", types=("t3",), filter={"exact": {"data.x": 1}}),
    )

    asked = [("t1", "in/a"), ("t1", "out"), ("t1", None), ("t2", "a"), ("t2", "a.tmp"), ("t3", None), ("t4", "in/a")]
    assert [rules.wants("s", *one) for one in asked] == [True, False, False, True, False, True, False]
    assert not rules.wants("nobody", "t1", "in/a")


@pytest.mark.parametrize(
    ("make", "data"),
    [
        pytest.param(lambda i: {"exact": {"data.customer": f"c{i}"}}, {"customer": "c77"}, id="exact"),
        pytest.param(
            lambda i: {"exact": {"type": "test", "data.customer": f"c{i}"}},
            {"customer": "c77"},
            id="beside a common exact",
        ),
        pytest.param(
            lambda i: {"any": [{"exact": {"data.customer": f"c{i}"}}, {"exact": {"data.old": f"c{i}"}}]},
            {"old": "c77"},
            id="any",
        ),
        pytest.param(
            lambda i: {"exact": {"type": "test"}, "prefix": {"data.customer": f"c{i}-"}},
            {"customer": "c77-x"},
            id="prefix",
        ),
        pytest.param(lambda i: {"suffix": {"data.customer": f"-c{i}"}}, {"customer": "x-c77"}, id="suffix"),
    ],
)
def test_ten_thousand_triggers_are_probed_like_one(make: Any, data: Any) -> None:
    """With 10,000 distinct conditions on one field an event tries one filter, and none when no condition is met."""
    rules = rule_set(*(trigger(f"t{i}", filter=make(i)) for i in range(10_000)))
    candidates = rules.groups["s"].candidates("test")

    assert candidates.size == 10_000
    assert candidates.probes(EventView(event("s", data=data), NOW)) == 1
    assert candidates.probes(EventView(event("s", data={"customer": "nobody"}), NOW)) == 0
    assert [intent.trigger for intent in plan(rules, event("s", data=data)).intents] == ["t77"]
