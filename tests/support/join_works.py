"""Works whose timers ring by hand, and short ways to write patterns."""

from typing import Any

from sensors.event import Event
from tests.support.works import T0, Works, make_event
from tidegate.flow_timers import ArmFlows, FlowTimers
from tidegate.flows import KIND as FLOW
from tidegate.join_timers import OPENS, ArmPatterns, JoinTimers
from tidegate.joins import KIND
from tidegate.timers import FireTimers
from tidegate.watched import SensorWatch
from triggers.pattern import Absence, Join, Part, Pattern, Source, Take
from triggers.trigger import RunRule, Trigger

HOUR = 3_600_000_000


def part(name: str, take: str = "first", *, by: str | None = "event.subject", **fields: Any) -> Part:
    """Return a part: events of sensor `s` whose type is the part's name."""
    source = Source(sensor=fields.pop("sensor", "s"), types=(name,))
    return Part(name=name, source=source, by=by, take=Take(take), **fields)


def join_of(*names: str, **fields: Any) -> Join:
    """Return a join of parts by name, within an hour."""
    values: dict[str, Any] = {"within": HOUR, **fields}
    return Join(parts=tuple(part(name) for name in names), **values)


def waiting_for(pattern: Pattern, name: str = "j", **fields: Any) -> Trigger:
    """Return a trigger that waits for a pattern and starts pipeline `p`; `run` holds fields of its rule."""
    parts = pattern.parts if isinstance(pattern, Join) else (pattern.part,)
    if isinstance(pattern, Absence) and pattern.after is not None:
        parts = (pattern.after, pattern.part)
    rule = RunRule(pipeline="p", **fields.pop("run", {"key": "key"}))
    overdue = tuple(RunRule(pipeline="late", **one) for one in fields.pop("overdue", ()))
    return Trigger(
        name=name,
        on=tuple(one.source for one in parts),
        runs=(rule,),
        pattern=pattern,
        overdue_runs=overdue,
        version=fields.pop("version", "v1"),
        **fields,
    )


class Bells:
    """The timers of some works, rung by hand."""

    def __init__(self, house: Works) -> None:
        self.house = house
        self.watch = SensorWatch()

    async def ring(self, at: int | None = None) -> int:
        """Move the clock (if told to) and handle all that is due; return how much that was."""
        house = self.house
        if at is not None:
            house.clock.at = max(house.clock.at, at)
        timers = JoinTimers(house.rules, house.shard, house.own, self.watch, house.fail)
        flows = FlowTimers(house.rules, house.shard, house.own, house.fail)
        fire = FireTimers({KIND: timers.ring, OPENS: timers.open, FLOW: flows.ring})
        total = 0
        while True:
            fired = await house.store.submit(fire, frozenset())
            house.facts.extend(fired.facts)
            total += fired.handled
            if not fired.handled:
                return total

    async def arm(self) -> None:
        """Set calendars going and begin silences, as a start of the service does."""
        await self.house.store.submit(ArmPatterns(self.house.rules), None)
        await self.house.store.submit(ArmFlows(self.house.rules), None)


def came(type: str, key: str = "k", at: int = T0, **fields: Any) -> Event:
    """Return an event that is a part."""
    return make_event(type=type, subject=key, received_at=at, **fields)
