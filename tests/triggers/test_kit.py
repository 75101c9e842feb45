"""The kit for people's tests: rules of a configuration, a clock that only tests move, questions that explain."""

import doctest
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.problems import ConfigProblems
from sensors.event import Event
from sensors.registry import builtin_kinds
from tests.support.works import make_trigger
from triggers import testing
from triggers.decision import Outcome
from triggers.testing import Rules, event, sample

YAML = """
sensors:
  crm: {kind: webhook, path: /hooks/crm, verify: {scheme: bearer, secret: "env:NOT_SET"}}
  fx: {kind: webhook, path: /hooks/fx, verify: {scheme: bearer, secret: "env:NOT_SET"}}
  landing: {kind: files, path: ./inbox, pattern: "{customer}-{day}.csv", start: now}
triggers:
  both:
    join:
      of:
        crm: {sensor: crm, by: event.data.day}
        fx: {sensor: fx, by: event.data.day, when: event.data.base == "EUR"}
      until: "06:00"
      timezone: Europe/Oslo
    run: {pipeline: model, key: key, params: {files: "${{ events.map(e, e.data.url) }}"}}
  big: {on: {sensor: crm}, when: event.data.n > 10, run: {pipeline: report, key: event.data.day}}
  often: {count: {sensor: crm, reach: 3, within: 10m}, run: {pipeline: report}}
  quiet: {absent: {sensor: fx, for: 2h}, run: {pipeline: report}}
  nightly: {on: {cron: "0 6 * * *"}, run: {pipeline: report}}
pipelines:
  model: {engine: command, argv: [echo], params: {files: {type: list}}}
  report: {engine: command, argv: [echo]}
"""


def crm(day: str = "2026-01-01", n: int = 1) -> Event:
    return event("crm", data={"day": day, "n": n, "url": f"crm/{day}"})


def fx(day: str = "2026-01-01", base: str = "EUR") -> Event:
    return event("fx", data={"day": day, "base": base, "url": f"fx/{day}"})


@pytest.fixture
def rules() -> Rules:
    return Rules.from_yaml(YAML, timezone="Europe/Oslo")


def test_the_examples_in_the_kit_run() -> None:
    """What the kit shows of itself is true."""
    assert doctest.testmod(testing).failed == 0
    assert doctest.testmod(testing).attempted >= 5


def test_a_join_comes_together(rules: Rules) -> None:
    """Parts at their times: one waits and names what is missing, the last one starts the run with both."""
    rules.at("01:30").receive(crm()).waits("both", missing=["fx"])
    rules.at("+10m").receive(fx(base="USD")).decides("both", "filtered", clause="join.of.fx.when")
    seen = rules.at("02:00").receive(fx())

    seen.fires("both", pipeline="model", key="2026-01-01", params={"files": ["crm/2026-01-01", "fx/2026-01-01"]})
    seen.fires("both", events=2).does_not_fire("big")
    assert rules.now == datetime(2026, 1, 1, 1, 0, tzinfo=UTC)


def test_a_join_is_overdue(rules: Rules) -> None:
    """Time alone brings it about: at the time of day of its zone, with what is missing."""
    rules.receive(crm())
    rules.advance("05:59").says_nothing("both")
    rules.advance("06:00").is_overdue("both", missing=["fx"]).does_not_fire("both")
    rules.receive(fx()).decides("both", Outcome.LATE)


def test_counts_silences_and_keys(rules: Rules) -> None:
    """Three within ten minutes; two hours without; a key that was used."""
    rules.receive(crm(), crm(), crm(n=11)).fires("often", events=3).fires("big", key="2026-01-01")
    rules.receive(crm(n=12)).decides("big", "duplicate", clause="repeat", reason="was used before")
    rules.advance("+90m").does_not_fire()
    rules.advance("+30m").fires("quiet")
    assert len(rules.seen.of("quiet")) == 1


def test_moments() -> None:
    """A time of day is the next one, in the zone; a moment without an offset is local; the clock never goes back."""
    rules = Rules([], timezone="Europe/Oslo", start=datetime(2026, 3, 28, 12, tzinfo=UTC))

    assert rules.at("2026-03-28T18:30").now == datetime(2026, 3, 28, 17, 30, tzinfo=UTC)
    assert rules.at("06:00").now == datetime(2026, 3, 29, 4, 0, tzinfo=UTC)  # the clock was changed that night
    assert rules.at("06:00").now == datetime(2026, 3, 29, 4, 0, tzinfo=UTC)
    assert rules.at("+1.5h").now == datetime(2026, 3, 29, 5, 30, tzinfo=UTC)
    assert rules.at(datetime(2026, 3, 30, tzinfo=UTC)).now == datetime(2026, 3, 30, tzinfo=UTC)
    with pytest.raises(ValueError, match="only goes forward"):
        rules.at("2026-01-01T00:00Z")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda seen: seen.fires("big"), "big fired 0 times, expected once"),
        (lambda seen: seen.fires("bg"), "there is no trigger 'bg'; there are both, big"),
        (lambda seen: seen.decides("big", "error"), "big decided filtered, expected error"),
        (lambda seen: seen.decides("big", "filtered", clause="on"), "big was decided by when, expected on"),
        (lambda seen: seen.decides("big", "filtered", reason="xyz"), "another reason than 'xyz'"),
        (lambda seen: seen.waits("both", missing=["crm"]), "both misses fx, expected crm"),
        (lambda seen: seen.is_overdue("both"), "both decided waiting, expected overdue"),
        (lambda seen: seen.says_nothing("big"), "expected no verdict"),
        (lambda seen: seen.decides("quiet", "fired"), "quiet decided nothing, expected fired"),
    ],
)
def test_what_is_not_so_is_explained(ask: object, message: str, rules: Rules) -> None:
    """The message says what was expected, and all that the trigger said: its clause, what it wanted, what it had."""
    seen = rules.receive(crm(n=3))
    with pytest.raises(AssertionError) as found:
        ask(seen)  # type: ignore[operator]

    assert message in str(found.value)
    if "big " in message and "nothing" not in message:
        assert "when: event.data.n > 10" in str(found.value)
        assert 'wants true, has false, with event.data = {"day":"2026-01-01","n":3' in str(found.value)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"key": "other"}, "fired with key '2026-01-01', expected 'other'"),
        ({"pipeline": "model"}, "fired 0 times for pipeline model"),
        ({"params": {"x": 1}}, "fired with no such parameter as x, expected 1"),
        ({"times": 2}, "fired once, expected 2 times"),
        ({"events": 2}, "fired with 1 events, expected 2"),
        ({"lane": "l"}, "fired with lane None, expected 'l'"),
    ],
)
def test_a_firing_is_asked_in_detail(wanted: dict[str, object], message: str, rules: Rules) -> None:
    """Every part of the run can be expected."""
    seen = rules.receive(crm(n=30)).fires("big", key="2026-01-01", partition=None, params={})
    with pytest.raises(AssertionError, match=message.replace("(", r"\(")):
        seen.fires("big", **wanted)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="big fired, expected it not to"):
        seen.does_not_fire()


def test_configurations_are_checked(tmp_path: Path) -> None:
    """A configuration with problems is refused with all of them; a good one may be files of one layer."""
    with pytest.raises(ConfigProblems, match=r"triggers\.big\.when"):
        Rules.from_yaml(YAML.replace("event.data.n > 10", "event.data.n >"))
    (tmp_path / "a.yaml").write_text(YAML)
    (tmp_path / "b.yaml").write_text("triggers: {more: {on: {sensor: crm}, run: {pipeline: report}}}")
    rules = Rules.from_config(tmp_path / "a.yaml", tmp_path / "b.yaml")

    rules.receive(crm()).fires("more")


def test_samples_are_those_of_the_kinds(rules: Rules) -> None:
    """By kind, or by configured sensor; changed where the test says so."""
    assert rules.sample("landing").type == sample("files").type == "object.created"
    assert rules.sample("landing", subject="acme-1.csv", match={"day": "1"}).match == {"day": "1"}
    assert sample("webhook", "crm", data={"n": 11, "day": "1"}).data == b'{"n": 11, "day": "1"}'
    rules.receive(sample("webhook", "crm", data={"n": 11, "day": "1"})).fires("big", key="1")
    with pytest.raises(KeyError, match="no sensor lnding; there are crm"):
        rules.sample("lnding")
    with pytest.raises(ValueError, match="did you mean `webhook`"):
        sample("webhok")


@pytest.mark.parametrize("kind", [kind.name for kind in builtin_kinds()])
def test_every_kind_has_a_sample(kind: str) -> None:
    """It is an event of a type that the kind emits, which a trigger can judge."""
    made = sample(kind)
    (declared,) = [one.emits.types for one in builtin_kinds() if one.name == kind]

    assert made.sensor == kind
    assert made.type in declared or not all(name.islower() for name in declared)
    Rules([make_trigger(sensor=kind)]).receive(made).fires("t")
