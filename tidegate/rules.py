"""The rules in force: compiled triggers and pipelines of one configuration, swapped as one value on reload.

The transaction reads `RulesInForce.current` once at its start, so a group of events is judged by exactly one
configuration.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from config.model import ServiceConfig
from pipelines.pipeline import PipelineDef, definition_hash, to_json
from tidegate.alerts.routing import AlertRules, compile_alerts
from tidegate.deadlines import Deadlines, compile_deadlines
from tidegate.watching import Freshness, compile_freshness
from triggers.evaluator import RuleSet
from triggers.trigger import Paused


@dataclass(frozen=True, slots=True)
class CompiledPipeline:
    """A definition with its canonical text and the hash that names it."""

    definition: PipelineDef
    text: str
    hash: str


@dataclass(frozen=True, slots=True)
class Rules:
    """One configuration's rules. `paused` holds triggers paused by configuration or by an operator."""

    rules: RuleSet
    pipelines: Mapping[str, CompiledPipeline]
    concurrency: Mapping[str, int]
    config_hash: str
    paused: Mapping[str, Paused]
    alerts: AlertRules = field(default_factory=AlertRules)
    pools: Mapping[str, int] = field(default_factory=dict)
    freshness: Freshness = field(default_factory=Freshness)
    deadlines: Mapping[str, Deadlines] = field(default_factory=dict)


class RulesInForce:
    """Holds the current `Rules`; the only thing that reload replaces. Reads are atomic and take no lock.

    Changes come from the loop and, when a trigger has nothing left that it held, from the writer's thread: they take
    turns. A trigger that goes on holds what arrives until what it held before is judged; `releasing` says that it is
    at that.
    """

    def __init__(self, rules: Rules) -> None:
        self.current = rules
        self._releasing: frozenset[str] = frozenset()
        self._turn = threading.Lock()

    def swap(self, rules: Rules) -> frozenset[str]:
        """Put other rules in force for every transaction that starts from now on.

        Returns the triggers that were paused and are not any more: they hold until they are let go.
        """
        with self._turn:
            lifted = frozenset(
                name for name in self.current.paused if name not in rules.paused and name in rules.rules.rules
            )
            self._releasing = lifted
            if lifted:
                rules = replace(rules, paused={**rules.paused, **dict.fromkeys(lifted, Paused.HOLD)})
            self.current = rules
        return lifted

    def pause(self, trigger: str, how: Paused | None) -> None:
        """Pause a trigger, or let it go on at once, whatever it holds (None)."""
        with self._turn:
            self._releasing -= {trigger}
            self._set(trigger, how)

    def hold_until_released(self, trigger: str) -> None:
        """Let a trigger hold what arrives until `let_go`."""
        with self._turn:
            self._releasing |= {trigger}
            self._set(trigger, Paused.HOLD)

    def releasing(self, trigger: str) -> bool:
        """Say whether a trigger goes on as soon as it holds nothing more."""
        return trigger in self._releasing

    def let_go(self, trigger: str) -> None:
        """End the hold of a trigger that holds nothing more; nothing happens to one that was paused again meanwhile."""
        with self._turn:
            if trigger in self._releasing:
                self._releasing -= {trigger}
                self._set(trigger, None)

    def _set(self, trigger: str, how: Paused | None) -> None:
        paused = {name: value for name, value in self.current.paused.items() if name != trigger}
        if how is not None:
            paused[trigger] = how
        self.current = replace(self.current, paused=paused)


def compile_rules(config: ServiceConfig, paused: Mapping[str, Paused]) -> Rules:
    """Compile a checked configuration; `paused` are the operator's own pauses. Raises triggers.errors.RuleError."""
    pipelines = {}
    for name, definition in config.pipelines.items():
        text = to_json(definition)
        pipelines[name] = CompiledPipeline(definition, text, definition_hash(text))
    concurrency = {name: definition.concurrency for name, definition in config.pipelines.items()}
    configured = {name: trigger.paused for name, trigger in config.triggers.items() if trigger.paused is not None}
    rules = RuleSet(config.triggers, config_hash=config.hash, concurrency=concurrency)
    return Rules(
        rules,
        pipelines,
        concurrency,
        config.hash,
        {**configured, **paused},
        alerts=compile_alerts(config),
        pools=config.pools,
        freshness=compile_freshness(config),
        deadlines=compile_deadlines(config),
    )
