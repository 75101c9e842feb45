"""Which rules were in force when: so that an event is judged by the rules of its day, long after they have changed.

In flow the triggers of a configuration at every start and reload; out flow the triggers that were in force at a moment.
Kept are the last `KEPT` configurations, by the hash of their triggers; one that comes again is written down again. What
is not kept any more cannot be asked, and the answer says so. References are resolved by then, and what they stand for
may be secret: parameters of runs are left out, and triggers that refer to anything elsewhere.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import orjson
from pydantic import TypeAdapter

from config.triggers_section import digest
from tidegate.store.tx import Tx
from triggers.pattern import Pattern
from triggers.trigger import Trigger

KEPT = 100
_AT = "rules/at/"  # names end with the moment, the value names the rules
_TEXT = "rules/text/"
_DIGITS = 20


@dataclass(frozen=True, slots=True)
class WrittenRules:
    """The triggers of one configuration as text, and the hash that names them."""

    hash: str
    text: str


class Settings(Protocol):
    """What is read from the store."""

    def settings(self, prefix: str) -> Mapping[str, str]:
        """Return small named values by prefix."""
        ...


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[dict[str, Trigger]]:
    return TypeAdapter(dict[str, Trigger])


def written(triggers: Mapping[str, Trigger]) -> WrittenRules:
    """Write triggers down, without what may be secret."""
    text = _adapter().dump_json({name: plain(one) for name, one in triggers.items() if not one.refers}).decode()
    return WrittenRules(digest(text, 32), text)


def plain(trigger: Trigger) -> Trigger:
    """Return a trigger without the parameters of its runs."""
    return replace(
        trigger,
        runs=tuple(replace(run, params={}) for run in trigger.runs),
        overdue_runs=tuple(replace(run, params={}) for run in trigger.overdue_runs),
    )


def completed(before: Mapping[str, Trigger], now: Mapping[str, Trigger]) -> dict[str, Trigger]:
    """Add to triggers that were written down what was left out of them, where it can be taken from those of now."""
    found = {name: one for name, one in now.items() if one.refers}
    for name, one in before.items():
        today = now.get(name)
        same = today is not None and _runs(plain(today)) == _runs(one)
        found[name] = replace(one, runs=today.runs, overdue_runs=today.overdue_runs) if same and today else one
    return found


def _runs(trigger: Trigger) -> bytes:
    return orjson.dumps([trigger.runs, trigger.overdue_runs])


def read(text: str) -> dict[str, Trigger]:
    """Read triggers that were written down."""
    return _adapter().validate_json(text)


class RecordRules:
    """The write that notes which rules are in force from now on; nothing happens when they were already."""

    name = "record_rules"

    def __call__(self, tx: Tx, items: Sequence[WrittenRules]) -> Sequence[bool]:
        """Return for each whether it is new."""
        return [self._record(tx, item) for item in items]

    def _record(self, tx: Tx, rules: WrittenRules) -> bool:
        known = tx.get_settings(_AT)
        moments = sorted(known)
        if moments and known[moments[-1]] == rules.hash:
            return False
        tx.put_setting(_TEXT + rules.hash, rules.text)
        last = int(moments[-1].removeprefix(_AT)) if moments else 0
        tx.put_setting(f"{_AT}{max(tx.now(), last + 1):0{_DIGITS}}", rules.hash)
        old = moments[: max(0, len(moments) + 1 - KEPT)]
        kept = {rules.hash, *(known[name] for name in moments[len(old) :])}
        for name in old:
            tx.put_setting(name, None)
        for gone in {known[name] for name in old} - kept:
            tx.put_setting(_TEXT + gone, None)
        return True


def in_force(reader: Settings, at: int) -> Mapping[str, Trigger] | None:
    """Return the triggers that were in force at a moment (UTC microseconds), None when that is not known."""
    known = reader.settings(_AT)
    moments = sorted(known)
    place = bisect_right(moments, f"{_AT}{at:0{_DIGITS}}")
    return _triggers(reader, known[moments[place - 1]]) if place else None


def of_version(reader: Settings, trigger: str, version: str) -> Trigger | None:
    """Return a trigger as it was in a version, None when that is not kept."""
    known = reader.settings(_AT)
    for name in dict.fromkeys(known[moment] for moment in sorted(known, reverse=True)):
        found = (_triggers(reader, name) or {}).get(trigger)
        if found is not None and found.version == version:
            return found
    return None


def former_patterns(tx: Tx) -> Callable[[str, str], Pattern | None]:
    """Return what finds the pattern of a trigger as it was in a version; each is looked up once per transaction."""
    found: dict[tuple[str, str], Pattern | None] = {}

    def former(trigger: str, version: str) -> Pattern | None:
        if (trigger, version) not in found:
            rule = of_version(_InTransaction(tx), trigger, version)
            found[trigger, version] = None if rule is None else rule.pattern
        return found[trigger, version]

    return former


class _InTransaction:
    """Reads settings inside a transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    def settings(self, prefix: str) -> Mapping[str, str]:
        return self._tx.get_settings(prefix)


def _triggers(reader: Settings, name: str) -> Mapping[str, Trigger] | None:
    text = reader.settings(_TEXT + name).get(_TEXT + name)
    return None if text is None else _read_once(text)


@lru_cache(maxsize=8)
def _read_once(text: str) -> Mapping[str, Trigger]:
    return read(text)
