"""The plan: what a group of events asks for, before anything is known about the past.

`RuleSet.plan` makes it from events alone. It names the run keys and lanes whose rows the ingest transaction locks;
`triggers.flow.admit` turns its intents into runs. Intents and decisions stand in the order of the events and, within
one event, in the order in which the triggers are configured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triggers.control_rule import Pass
from triggers.decision import Decision
from triggers.ports import LaneName, RunKeyName
from triggers.round import Offer, RoundName
from triggers.trigger import Repeat, WhenBusy

CountKey = tuple[str, str, str]  # (kind, name, outcome or configuration hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One run that a trigger asks for, rendered and ready.

    `trigger_event` is the uid that the trigger event gets if the run is admitted. `key` names the idempotency key; with
    `keyed` False the key is that very uid, so it is new by construction and no row need be locked. `depth` is the depth
    of the run (that of the deepest causing event). `why` says what several events together came to.
    """

    trigger: str
    version: str
    trigger_event: str
    events: tuple[str, ...]
    pipeline: str
    key: RunKeyName
    keyed: bool
    depth: int
    rule: int = 0
    item: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    partition: str | None = None
    lane: str | None = None
    repeat: Repeat = Repeat.RETRY_FAILED
    when_busy: WhenBusy = WhenBusy.QUEUE
    priority: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one group of events asks for.

    `decisions` are settled already (error, paused, sampled filtered ones); those of the intents come from `admit`.
    `dead` are (event uid, reason) of events that no rule can judge: none of their intents stands in the plan.
    `offers` are the events that patterns (joins, counts, absences) are waiting for, in order; `triggers.gather` takes
    them on. `passes` are those that enter the flow control of their triggers; `triggers.passing` takes them on.
    `concurrency` holds the bound of every pipeline named by an intent.
    """

    config_hash: str
    intents: Sequence[Intent] = ()
    offers: Sequence[Offer] = ()
    passes: Sequence[Pass] = ()
    decisions: Sequence[Decision] = ()
    counts: Mapping[CountKey, int] = field(default_factory=dict)
    dead: Sequence[tuple[str, str]] = ()
    concurrency: Mapping[str, int] = field(default_factory=dict)

    def rounds(self) -> list[RoundName]:
        """Return the names of the join keys to lock, sorted, each once."""
        return sorted({offer.name for offer in self.offers})

    def run_keys(self) -> list[RunKeyName]:
        """Return the names of the run keys to lock, sorted, each once."""
        return sorted({intent.key for intent in self.intents if intent.keyed})

    def lanes(self) -> list[LaneName]:
        """Return the lanes to lock, sorted, each once: explicit ones, and whole pipelines where being busy matters."""
        names = {LaneName(intent.pipeline, intent.lane) for intent in self.intents if intent.lane}
        names.update(LaneName(intent.pipeline, "") for intent in self.intents if intent.when_busy is not WhenBusy.QUEUE)
        return sorted(names)
