"""`make nonmatches`: a flood of events that no trigger lets through, and one of events on which all triggers fail.

`python -m tests.campaigns.nonmatches [--events N] [--triggers N]`. Events of one simulated hour go through the one
transaction into a SQLite file, judged by many triggers; then the same number on which every condition fails. Prints
how many decisions there were, how many are stored and may be, what an event costs in the file with and without
triggers, and whether the counters are exact; exits 1 when a bound is broken or a count is wrong.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from sensors.event import Event
from sensors.uid import EVENT, new_uid
from tests.support.works import Works, make_config, open_works
from triggers.counting import error_count, filtered_count
from triggers.sampling import MINUTE, Kind
from triggers.trigger import RunRule, Source, Trigger

_BATCH = 500
_START = 1_800_000_000_000_000 // MINUTE * MINUTE
_HOUR = 60
_KINDS = ("candidates", "matched", "dead", "trigger")


@dataclass(frozen=True, slots=True)
class Flood:
    """What one flood came to."""

    stored: int
    bytes: int
    seconds: float
    counted: list[int]


def _triggers(number: int, *, fail: bool) -> list[Trigger]:
    """Return triggers of which half ask a filter, the other half (or all, that they fail) a condition."""
    made = []
    for n in range(number):
        filtered = {"exact": {"data.kind": f"kind-{n}"}} if n % 2 and not fail else None
        when = None if filtered else f"event.data.absent.field > {n}" if fail else f"event.data.size > {10_000 + n}"
        source = Source(sensor="s", filter=filtered)
        made.append(Trigger(name=f"t{n}", on=(source,), when=when, runs=(RunRule(pipeline="p"),), version="v1"))
    return made


def _events(number: int) -> Iterator[Event]:
    step = _HOUR * MINUTE // number
    for n in range(number):
        at = _START + n * step
        data = orjson.dumps({"kind": "other", "size": n % 1_000, "name": f"object-{n}"})
        yield Event(
            sensor="s",
            id=f"id-{n}",
            uid=new_uid(EVENT, at),
            source="/flood",
            type="object.created",
            received_at=at,
            subject=f"orders/{n}.csv",
            data=data,
            content_type="application/json",
        )


async def _flood(folder: Path, number: int, triggers: list[Trigger], *, fail: bool = False) -> Flood:
    path = folder / f"store-{len(triggers)}-{fail}.db"
    async with open_works(f"sqlite:///{path}", make_config(triggers)) as house:
        began = time.monotonic()
        batch: list[Event] = []
        for event in _events(number):
            batch.append(event)
            if len(batch) == _BATCH:
                await house.put(*batch)
                batch.clear()
        if batch:
            await house.put(*batch)
        seconds = time.monotonic() - began
        counted = await _counted(house, triggers, fail=fail)
        stored = await _stored(house)
    size = sum(file.stat().st_size for file in folder.glob(f"{path.name}*"))
    return Flood(stored, size, seconds, counted)


async def _counted(house: Works, triggers: list[Trigger], *, fail: bool) -> list[int]:
    counts = {kind: await house.counts(kind) for kind in _KINDS}
    numbers = []
    for trigger in triggers:
        if fail:
            numbers.append(error_count(trigger, "c1", dead=counts["dead"], decided=counts["trigger"]))
        else:
            numbers.append(
                filtered_count(
                    trigger,
                    "c1",
                    candidates=counts["candidates"],
                    matched=counts["matched"],
                    dead=counts["dead"],
                    decided=counts["trigger"],
                )
            )
    return numbers


async def _stored(house: Works) -> int:
    total, cursor = 0, None
    while True:
        rows, cursor = await house.store.read(lambda reader, at=cursor: reader.decisions(limit=1_000, cursor=at))  # type: ignore[misc]
        total += len(rows)
        if cursor is None:
            return total


async def _campaign(folder: Path, events: int, triggers: int) -> bool:
    bare = await _flood(folder, events, [])
    content = True
    for kind, fail in ((Kind.FILTERED, False), (Kind.ERROR, True)):
        flood = await _flood(folder, events, _triggers(triggers, fail=fail), fail=fail)
        bound = kind.value[1] * (_HOUR + 1)
        exact = flood.counted == [events] * triggers
        content = content and exact and flood.stored <= bound
        print(
            f"{kind.name.lower()}: events={events:,} triggers={triggers} decisions={events * triggers:,}"
            f" stored={flood.stored:,} bound={bound:,} counters_exact={exact}"
            f" bytes_per_event={flood.bytes / events:,.0f} without_triggers={bare.bytes / events:,.0f}"
            f" events_per_s={events / flood.seconds:,.0f} without_triggers_per_s={events / bare.seconds:,.0f}"
        )
    return content


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--triggers", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(_campaign(Path(folder), asked.events, asked.triggers)) else 1


if __name__ == "__main__":
    sys.exit(main())
