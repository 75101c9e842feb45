"""The rules in force: compiled triggers and pipelines of one configuration, swapped as one value on reload.

The transaction reads `RulesInForce.current` once at its start, so a group of events is judged by exactly one configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from config.model import ServiceConfig
from pipelines.pipeline import PipelineDef, definition_hash, to_json
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


class RulesInForce:
    """Holds the current `Rules`; the only thing that reload replaces. Reads and swaps are atomic."""

    def __init__(self, rules: Rules) -> None:
        self.current = rules

    def swap(self, rules: Rules) -> None:
        """Put other rules in force for every transaction that starts from now on."""
        self.current = rules

    def pause(self, trigger: str, how: Paused | None) -> None:
        """Pause a trigger, or let it go on (None)."""
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
    return Rules(rules, pipelines, concurrency, config.hash, {**configured, **paused})
