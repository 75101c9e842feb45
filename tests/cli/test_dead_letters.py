"""`tidegate dead-letters`: tried again, one or many; what is dealt with is out of the way."""

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from sensors.batch import Batch
from sensors.retrying import NotRetryable
from tests.support.served import Served
from tests.support.works import make_event

Ask = Callable[..., Result]


def _uid(ask: Ask) -> str:
    return str(json.loads(ask("dead-letters", "--json").output)["items"][0]["uid"])


def test_a_letter_is_tried_again(ask: Ask, served: Served) -> None:
    """The event that came of it is shown, and the letter is listed only when all are asked for."""
    served.house.read_again["hook"] = Batch([make_event("a", sensor="hook")])
    uid = _uid(ask)
    result = ask("dead-letters", "retry", uid)

    assert (result.exit_code, "evt_" in result.output) == (0, True)
    assert "no dead letter" in ask("dead-letters").output
    everything = ask("dead-letters", "--all").output
    assert (uid in everything, "evt_" in everything) == (True, True)
    assert "evt_" in ask("dead-letters", "show", uid).output


def test_what_cannot_be_tried_is_a_problem(ask: Ask, served: Served) -> None:
    """A letter that stays ends with exit code 1 and the reason."""
    served.house.read_again["hook"] = NotRetryable("the message was cut")
    result = ask("dead-letters", "retry", _uid(ask))

    assert (result.exit_code, "the message was cut" in result.output) == (1, True)
    assert json.loads(ask("dead-letters", "retry", _uid(ask), "--json").output)["outcome"] == "impossible"


def test_many_letters_ask(ask: Ask, served: Served) -> None:
    """Many are tried again only when somebody agrees; a dry run says how many."""
    served.house.read_again["hook"] = Batch([make_event("a", sensor="hook")])
    dry = ask("dead-letters", "retry", "--sensor", "hook", "--dry-run")
    asked = ask("dead-letters", "retry", "--sensor", "hook")
    done = ask("dead-letters", "retry", "--sensor", "hook", "--reason", "bad_payload", "--yes")

    assert "would try 1 dead letters again" in dry.output
    assert (asked.exit_code, "Try 1 dead letters again?" in asked.stderr) == (2, True)
    assert (done.exit_code, "evt_" in done.output) == (0, True)


@pytest.mark.parametrize("words", [(), ("ddl_x", "--sensor", "s"), ("--dry-run",)])
def test_what_names_nothing_is_a_usage_error(words: tuple[str, ...], bare: Ask) -> None:
    """A retry of nothing, or of both one and many, is refused before the service is asked."""
    assert bare("dead-letters", "retry", *words).exit_code == 2
