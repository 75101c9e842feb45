"""Random histories of an API under random faults and restarts, against the simplest model of what must come of them."""

import pytest

from tests.support.api_histories import WORLDS, check
from tests.support.api_world import Paging, Rising


@pytest.mark.parametrize(("rising", "paging"), WORLDS)
def test_each_version_is_one_event_whatever_happens(rising: Rising, paging: Paging) -> None:
    """Exactly one event per version shown by a complete poll, first `created`, then `changed`; nothing is missed."""
    done = check(rising, paging, examples=25)

    assert done["complete"] > done["broken off"]
