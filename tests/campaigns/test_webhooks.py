"""A short run of the webhook campaign against a real process, and that its checker finds what it looks for."""

import sqlite3
from pathlib import Path

import pytest

from tests.campaigns._flood import Flood, flood, missing
from tests.campaigns._mutants import ENVIRON, Senders
from tests.campaigns._wire import Answer
from tests.campaigns.webhooks import Fuzzed, fuzzed


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


def test_mutated_requests(tmp_path: Path) -> None:
    """Two thousand requests, most of them changed: no fault of ours, answers in time, what was accepted is there."""
    found = fuzzed(tmp_path, 2_000, seed=7)
    assert found.broken() == []
    assert {200, 202, 400, 401, 404, 405, 415} <= set(found.statuses)


def test_twice_the_load(tmp_path: Path) -> None:
    """Twice the capacity for two seconds: some is accepted and durable, the rest is asked to come again."""
    found = flood(tmp_path, 2.0)
    assert found.broken() == []
    assert found.accepted > 0


def test_requests_are_the_same_for_the_same_seed() -> None:
    """A story that broke something can be told again."""
    one, two = Senders(3), Senders(3)
    assert [len(one.next().data) for _ in range(50)] == [len(two.next().data) for _ in range(50)]


def test_the_checker_finds_what_is_broken(tmp_path: Path) -> None:
    """A lost event, a fault, a slow answer, a growing process and a refusal without Retry-After are each told."""
    with sqlite3.connect(tmp_path / "x.db") as db:
        db.execute("create table events (uid text)")
        db.execute("insert into events values ('evt_there')")
    db.close()
    assert missing(tmp_path / "x.db", {"evt_there", "evt_lost"}) == 1

    good = Fuzzed(times=[0.1], rss=[100.0] * 10)
    good.statuses.update({202: 1, 401: 1})
    assert good.broken() == []
    for change, sentence in (
        ({"faults": [(b"x", Answer(500, 0.1))]}, "faults"),
        ({"lost": 1}, "not in the store"),
        ({"times": [11.0]}, "took 11.0 s"),
        ({"rss": [100.0] * 9 + [200.0]}, "memory grew"),
    ):
        bad = Fuzzed(times=[0.1], rss=[100.0] * 10, statuses=good.statuses)
        for name, value in change.items():
            setattr(bad, name, value)
        assert sentence in bad.broken()[0]

    load = Flood(1.0, 2.0, 1.0)
    load.note(Answer(202, 0.1, {}, b'{"events": [{"event": "evt_1"}]}'))
    load.note(Answer(429, 0.1, {"retry-after": "1"}))
    assert load.broken() == []
    for answer in (Answer(429, 0.1), Answer(503, 0.1, {"retry-after": "0"}), Answer(0, 0.1), Answer(-1, 1.0)):
        bad_load = Flood(1.0, 2.0, 1.0, refused_times=[0.1])
        bad_load.note(answer)
        assert len(bad_load.broken()) == 1
