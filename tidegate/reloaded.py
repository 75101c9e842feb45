"""What a reload did: which triggers came, went and changed, in what, and what became of the keys that wait.

In flow the configurations before and after, and what was settled; out flows a report, written into the store so that
every replica and every later day can be asked. The last `KEPT` are kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import orjson

from tidegate.store.tx import Tx
from triggers.pattern import parts_of
from triggers.trigger import Trigger

KEPT = 50
REPORTS = "reloads/"  # among the settings
Change = Literal["added", "removed", "changed"]
_WORDS: Mapping[str, str] = {"runs": "run", "missing_field_is_error": "missing_field", "overdue_runs": "overdue.run"}
_UNTOLD = frozenset({"name", "version", "refers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerChange:
    """What became of one trigger: `what` changed in it, and of the keys that wait for its pattern how many were kept
    as they are, carried over, and given up. `waiting` is how many wait for a trigger that is gone."""

    trigger: str
    change: Change
    what: tuple[str, ...] = ()
    kept: int = 0
    carried: int = 0
    given_up: int = 0
    waiting: int = 0

    @property
    def words(self) -> str:
        """Say it in a sentence."""
        what = f" ({', '.join(self.what)})" if self.what else ""
        said = f"trigger {self.trigger} {self.change}{what}"
        keys = [
            f"{n} key{'' if n == 1 else 's'} {word}"
            for n, word in (
                (self.kept, "kept"),
                (self.carried, "carried over"),
                (self.given_up, "given up"),
                (self.waiting, "still waiting for it to come back"),
            )
            if n
        ]
        return f"{said}: {', '.join(keys)}" if keys else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """The report of one reload. `refused` says why it changed nothing, "" when it was put in force."""

    at: int
    by: str
    config: str
    refused: str = ""
    triggers: tuple[TriggerChange, ...] = ()


def changes(before: Mapping[str, Trigger], after: Mapping[str, Trigger]) -> list[TriggerChange]:
    """Return which triggers came, went and changed, in configured order; those that are gone last."""
    found = []
    for name, trigger in after.items():
        if name not in before:
            found.append(TriggerChange(trigger=name, change="added"))
        elif trigger.version != before[name].version and (what := tuple(_what(before[name], trigger))):
            found.append(TriggerChange(trigger=name, change="changed", what=what))
    return [*found, *(TriggerChange(trigger=name, change="removed") for name in before if name not in after)]


def _what(before: Trigger, after: Trigger) -> Iterator[str]:
    patterned = before.pattern is not None and after.pattern is not None
    for field in fields(Trigger):
        one, other = getattr(before, field.name), getattr(after, field.name)
        if field.name in _UNTOLD or _alike(one, other) or (patterned and field.name == "on"):
            continue
        if field.name == "pattern" and patterned and type(one) is type(other):
            yield from _of_pattern(one, other)
        else:
            yield _WORDS.get(field.name, field.name)


def _of_pattern(before: object, after: object) -> Iterator[str]:
    kind = type(after).__name__.lower()
    for field in fields(after):  # type: ignore[arg-type]
        if field.name != "parts" and not _alike(getattr(before, field.name), getattr(after, field.name)):
            yield f"{kind}.{field.name}"
    former = {part.name: part for part in parts_of(before)}  # type: ignore[arg-type]
    current = {part.name: part for part in parts_of(after)}  # type: ignore[arg-type]
    for name in [*current, *(name for name in former if name not in current)]:
        if not _alike(former.get(name), current.get(name)):
            yield f"{kind}.of.{name}"


def _alike(one: object, other: object) -> bool:
    """Compare values whatever sorts of sequences they have: rules that were written down come back with lists."""
    return orjson.dumps(one) == orjson.dumps(other)


def with_keys(change: TriggerChange, settled: tuple[int, int], waiting: int) -> TriggerChange:
    """Add what became of its keys; `waiting` are those that wait now, whatever became of them."""
    carried, given_up = settled
    if change.change == "removed":
        return replace(change, waiting=waiting)
    return replace(change, carried=carried, given_up=given_up, kept=max(0, waiting - carried))


class KeepReport:
    """The write that keeps reports of reloads, the last few."""

    name = "keep_report"

    def __call__(self, tx: Tx, items: Sequence[Reloaded]) -> Sequence[None]:
        """Keep all."""
        for item in items:
            tx.put_setting(f"{REPORTS}{item.at:020}/{item.by}", orjson.dumps(asdict(item)).decode())
        for name in sorted(tx.get_settings(REPORTS))[:-KEPT]:
            tx.put_setting(name, None)
        return [None] * len(items)


def reports(settings: Mapping[str, str]) -> list[Reloaded]:
    """Read the reports that are kept, newest first."""
    found = []
    for name in sorted(settings, reverse=True):
        raw = orjson.loads(settings[name])
        told = tuple(TriggerChange(**{**one, "what": tuple(one["what"])}) for one in raw.pop("triggers"))
        found.append(Reloaded(**raw, triggers=told))
    return found
