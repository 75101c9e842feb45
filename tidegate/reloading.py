"""A reload, told: rules are written down, keys that wait are settled, and what became of everything is reported.

In flow the triggers before and those in force; out flow what `tidegate.settling` writes, a log line per trigger, and a
report in the store. A start with other triggers than the last process had is a reload too.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from config.model import ServiceConfig
from sensors.clock import Clock
from sensors.ports import Unavailable
from tidegate.absorb import Facts
from tidegate.reloaded import KeepReport, Reloaded, TriggerChange, changes, with_keys
from tidegate.rule_history import RecordRules, completed, in_force, written
from tidegate.rules import RulesInForce
from tidegate.settling import SettleKeys, settle
from tidegate.store.tx import Store
from triggers.trigger import Trigger

_log = logging.getLogger("tidegate.reload")
_FOREVER = 2**62


@dataclass(frozen=True, slots=True)
class Reloads:
    """What there is to do around a swap of rules. `by` names this process."""

    store: Store
    rules: RulesInForce
    write: SettleKeys
    clock: Clock
    by: str
    on_facts: Callable[[Facts], None]

    async def record(self, config: ServiceConfig) -> Mapping[str, Trigger] | None:
        """Write down the rules that come into force; return those before, None when they are the same, or the first.

        Without a store now, explanations know only the rules before.
        """
        rules = await asyncio.to_thread(written, config.triggers)
        try:
            before = await self.store.read(lambda reader: in_force(reader, _FOREVER))
            new = await self.store.submit(RecordRules(), rules)
            return completed(before, config.triggers) if new and before is not None else None
        except Unavailable as error:
            _log.warning("the rules could not be written down: %s", error, extra={"action": "record_failed"})
            return None

    async def settle(self, before: Mapping[str, Trigger] | None, config: ServiceConfig) -> None:
        """Let the keys of changed patterns go on, or give them up, and report it. None: nothing is known to have
        changed. Without a store now, whoever touches a key settles it."""
        if before is None:
            return
        try:
            told = tuple([await self._settled(change) for change in changes(before, config.triggers)])
            await self._report(Reloaded(at=self.clock.now(), by=self.by, config=config.hash, triggers=told))
        except Unavailable as error:
            _log.warning("keys that wait could not be settled now: %s", error, extra={"action": "settle_failed"})

    async def refused(self, config: ServiceConfig, why: str) -> None:
        """Report a reload that changed nothing."""
        try:
            await self._report(Reloaded(at=self.clock.now(), by=self.by, config=config.hash, refused=why))
        except Unavailable as error:
            _log.warning("a refusal could not be written down: %s", error, extra={"action": "report_failed"})

    async def _settled(self, change: TriggerChange) -> TriggerChange:
        name = change.trigger
        rule = self.rules.current.rules.rules.get(name)
        meaning = None if rule is None or rule.pattern is None else rule.pattern.meaning
        settled = (0, 0)
        if meaning is not None:
            settled = await settle(self.store, self.write, name, meaning, self.on_facts)
        keys = await self.store.read(lambda reader: reader.open_keys())
        waiting = sum(n for (trigger, of), n in keys.items() if trigger == name and meaning in (None, of))
        return with_keys(change, settled, waiting)

    async def _report(self, report: Reloaded) -> None:
        for change in report.triggers:
            _log.info("%s", change.words, extra={"action": "reload_trigger", "trigger": change.trigger})
        await self.store.submit(KeepReport(), report)
