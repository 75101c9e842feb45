"""`tidegate sensors peek`: events as people read them, JSON for scripts."""

import json

from sensors.batch import Batch, DeadLetter
from sensors.peeking import NotPeekable
from tests.api.test_peek import _event
from tests.cli.conftest import Ask
from tests.support.served import Served


def test_events_and_dead_letters(served: Served, ask: Ask) -> None:
    """Type, id, captures and content of each; no control character of a name reaches the terminal."""
    served.house.peek = Batch(
        events=(_event("a@1"),), dead_letters=(DeadLetter("refused", "a column is missing", "b"),)
    )
    result = ask("sensors", "peek", "landing", "-n", "3")

    assert result.exit_code == 0
    assert served.house.peeked == [("landing", 3)]
    for text in ("object.created", "a@1", "2026-01-31", '"size": 3', "dead letter", "a column is missing"):
        assert text in result.output
    assert "\x1b" not in result.output


def test_nothing_new(served: Served, ask: Ask) -> None:
    """A source with nothing new says so, and that is no problem."""
    result = ask("sensors", "peek", "landing")

    assert (result.exit_code, result.output.strip()) == (0, "nothing new now")
    assert served.house.peeked == [("landing", 5)]


def test_json(served: Served, ask: Ask) -> None:
    """The answer of the API, as it is."""
    served.house.peek = Batch(events=(_event("a@1"),))

    assert json.loads(ask("sensors", "peek", "landing", "--json").output)["events"][0]["id"] == "a@1"


def test_a_webhook_says_what_to_do_instead(served: Served, ask: Ask) -> None:
    """What is sent its events cannot be peeked at."""
    served.house.peek = NotPeekable("sensor hook is sent its events; send one")
    result = ask("sensors", "peek", "hook")

    assert result.exit_code != 0
    assert "is sent its events; send one" in result.output
