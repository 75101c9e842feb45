"""How many events a trigger let pass: exact numbers that nobody counted one by one.

The plan counts, per event and not per trigger, `("candidates", "SENSOR|TYPE", config hash)` and, for what cannot be
read, `("dead", …)`; per trigger it counts only events that were more than filtered, `("matched", trigger, config
hash)`. TYPE is `*` where no trigger of the sensor names the type. What a trigger filtered is the difference.
"""

from collections.abc import Mapping
from typing import Final

from triggers.trigger import Trigger

CANDIDATES: Final = "candidates"

Counts = Mapping[tuple[str, str], int]  # (name, outcome or configuration hash) -> n


def candidates_count(trigger: Trigger, config_hash: str, counts: Counts) -> int:
    """Return how many events a trigger was a candidate for, from the counts of one kind (`candidates` or `dead`)."""
    total = 0
    for (name, configuration), n in counts.items():
        sensor, _, type_ = name.partition("|")
        if configuration == config_hash and any(
            source.sensor == sensor and (not source.types or type_ in source.types) for source in trigger.on
        ):
            total += n
    return total


def filtered_count(
    trigger: Trigger, config_hash: str, *, candidates: Counts, matched: Counts, dead: Counts, decided: Counts
) -> int:
    """Return how many decisions of a trigger, as it stood in the configuration `config_hash`, were `filtered`.

    The mappings are the counters of the kinds `candidates`, `matched`, `dead` and `trigger`. Filtered elements of
    `each` are counted one by one under `trigger` for all configurations together, and added.
    """
    events = candidates_count(trigger, config_hash, candidates) - candidates_count(trigger, config_hash, dead)
    return events - matched.get((trigger.name, config_hash), 0) + decided.get((trigger.name, "filtered"), 0)


def error_count(trigger: Trigger, config_hash: str, *, dead: Counts, decided: Counts) -> int:
    """Return how many decisions of a trigger were `error`: its own, and one for each event that nobody could read."""
    return decided.get((trigger.name, "error"), 0) + candidates_count(trigger, config_hash, dead)
