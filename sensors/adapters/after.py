"""What is done to objects after their runs: planned with the event, performed when the store says that it is time.

In flow new events with their objects, out flow actions to store with them; later those actions flow in again, and out
flow batches that say which are done and what the memory of their objects must become. A process may die between any two
steps: an action is performed again until a batch has it done, and performing it twice is the same as once. An action is
only ever applied to the version that its event told of; one whose object has changed is superseded, and counted.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from sensors.adapters.after_options import After
from sensors.adapters.destination import MAX_KEY, Template, compile_template
from sensors.adapters.objects import Listed, ObjectSource
from sensors.batch import Batch, DeadLetter, ObjectAction, SeenObject
from sensors.errors import BadPayload, SensorError
from sensors.event import EMPTY, Event
from sensors.listing import DELETED, PRESENT
from sensors.patterns import Pattern
from sensors.ports import Lookup
from sensors.uid import ACTION, new_uid

AT_ONCE: Final = 16  # actions performed at the same time
Result = Literal["done", "superseded", "gone", "failed"]
_log = logging.getLogger("sensors.after")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to each object of an event; call it with both. `pattern` gives the captures for `to`."""

    what: Literal["move", "copy", "tag", "delete"]
    when: Literal["now", "accepted", "succeeded"]
    to: Template | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    pattern: Pattern | None = None

    def __call__(self, event: Event, listed: Listed) -> ObjectAction:
        """Return the action to store with the event."""
        captures = (self.pattern.match(listed.key) if self.pattern is not None else None) or {}
        return ObjectAction(
            uid=new_uid(ACTION, event.received_at),
            event=event.uid,
            key=listed.key,
            etag=listed.etag,
            what=self.what,
            when=self.when,
            created_at=event.received_at,
            to="" if self.to is None else self.to.fill(listed.key, captures, event.received_at),
            tags=self.tags,
        )


def plan_of(after: After | None, pattern: Pattern | None) -> Plan | None:
    """Return the plan of checked options, None when nothing is to be done."""
    if after is None:
        return None
    to = None if after.to is None else compile_template(after.to, pattern.names if pattern is not None else ())
    return Plan(after.do, after.when, to, after.tags, pattern)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an action.

    `done`, `superseded` (the object is another version by now), `gone` (somebody else took it away) or `failed` (it can
    never be done). `seen` is what the memory of the key must become, without an event; None leaves it alone. `detail`
    says in a sentence why it was not done.
    """

    result: Result
    seen: SeenObject | None = None
    detail: str = ""


async def perform(action: ObjectAction, source: ObjectSource, known: SeenObject | None, now: int) -> Outcome:
    """Do it, unless it is done. `known` is what is remembered of the key; `now` is UTC micros.

    Raises what the source raises when it cannot be asked now; then it is to be tried again.
    """
    if action.what in ("move", "copy") and not _is_key(action):
        return Outcome("failed", detail=f"{action.to[:200]!r} is no key that an object can be taken to")
    try:
        return await _perform(action, source, known, now)
    except BadPayload as error:
        return Outcome("failed", detail=str(error))


async def _perform(action: ObjectAction, source: ObjectSource, known: SeenObject | None, now: int) -> Outcome:
    before = await source.head(action.key)
    if before is None or before.deleted:
        return await _absent(action, source, known, now)
    if not _same_version(action, before, known):
        return await _changed(action, source, before, known, now)
    await _apply(action, source)
    if action.what == "copy":
        there = await source.head(action.to)
        if there is None or there.size != before.size:
            return Outcome("superseded", detail="it changed while it was being copied")
        return Outcome("done")
    after = await source.head(action.key)
    if after is None or after.deleted:
        return await _absent(action, source, known, now)
    if after.token != before.token:
        return await _changed(action, source, after, known, now)
    if action.what == "tag":
        return Outcome("done")
    return Outcome("failed", detail="it is still there, although the source did not object; is it locked?")


async def _apply(action: ObjectAction, source: ObjectSource) -> None:
    if action.what == "move":
        await source.move(action.key, action.etag, action.to)
    elif action.what == "copy":
        await source.copy(action.key, action.etag, action.to)
    elif action.what == "delete":
        await source.delete(action.key, action.etag)
    else:
        await source.tag(action.key, action.etag, action.tags)


async def _absent(action: ObjectAction, source: ObjectSource, known: SeenObject | None, now: int) -> Outcome:
    """No object is there: because of us, now or before a crash, or because of somebody else."""
    ours = action.what == "delete" or (action.what == "move" and await source.head(action.to) is not None)
    if not ours:
        return Outcome("gone", detail="somebody took it away before it could be done")
    return Outcome("done", _taken(action, known, now))


async def _changed(
    action: ObjectAction, source: ObjectSource, listed: Listed, known: SeenObject | None, now: int
) -> Outcome:
    """Another version is there: our own tags, or somebody's new object."""
    if action.what == "tag" and _describes(action, known):
        detailed = await source.head(action.key, details=True)
        if detailed is not None and tagged_by_us(action, detailed):
            return Outcome("done", _tagged(known, detailed.token, now))
    return Outcome("superseded", detail=f"its etag is {listed.etag} by now, and it was {action.etag}")


def tagged_by_us(action: ObjectAction, listed: Listed) -> bool:
    """Say whether another version of an object, looked at in detail, is what an action of tagging made of it.

    Only tags that are kept as metadata make another version, and they are gone with the next upload: so one that has
    them all is ours. A scan asks this of what seems overwritten while such an action is open: it is then no event.
    """
    has = {name.lower(): value for name, value in listed.metadata.items()}
    return action.what == "tag" and all(has.get(name.lower()) == value for name, value in action.tags.items())


def _is_key(action: ObjectAction) -> bool:
    to = action.to
    return bool(to) and to != action.key and len(to.encode(errors="replace")) <= MAX_KEY


def _same_version(action: ObjectAction, listed: Listed, known: SeenObject | None) -> bool:
    """Say whether the object is the version that the event told of.

    The same etag is not enough: the same content may have come again, and that upload has an event of its own.
    """
    if listed.etag != action.etag:
        return False
    return known is None or known.state != PRESENT or known.token == listed.token


def _describes(action: ObjectAction, known: SeenObject | None) -> bool:
    return known is not None and known.state == PRESENT and known.token.startswith(f"{action.etag}+")


def _taken(action: ObjectAction, known: SeenObject | None, now: int) -> SeenObject | None:
    """Return the memory of an object that we took away; a version that came after it is not ours to forget."""
    if known is None or known.state != PRESENT:
        return None
    if "+" in known.token and not _describes(action, known):
        return None
    return replace(known, state=DELETED, last_changed=now)


def _tagged(known: SeenObject | None, token: str, now: int) -> SeenObject | None:
    return None if known is None or known.token == token else replace(known, token=token, last_changed=now)


async def work_off(lookup: Lookup, source: ObjectSource, now: int, limit: int = 100) -> Batch:
    """Perform up to `limit` actions whose time has come; return what must become durable. An empty batch: nothing was.

    `now` is UTC micros. What was not done is counted by its reason; what can never be done is a dead letter as well.
    One that the source could not be asked about stays open; when that is so of all, the first error is raised.
    """
    due = await lookup.due_actions(limit)
    if not due:
        return Batch()
    keys = sorted({action.key for action in due})
    known, open_ = await asyncio.gather(lookup.seen(keys), lookup.open_actions(keys))
    places = asyncio.Semaphore(AT_ONCE)

    async def end(action: ObjectAction) -> Outcome:
        if any(other.uid > action.uid for other in open_.get(action.key, ())):
            return Outcome("superseded", detail="a later event tells of the same object")
        async with places:
            return await perform(action, source, known.get(action.key), now)

    ends = await asyncio.gather(*map(end, due), return_exceptions=True)
    errors = [one for one in ends if isinstance(one, BaseException)]
    for error in errors:
        if len(errors) == len(due) or not isinstance(error, SensorError):
            raise error
    return _batch([(action, one) for action, one in zip(due, ends, strict=True) if isinstance(one, Outcome)])


def _batch(ended: Sequence[tuple[ObjectAction, Outcome]]) -> Batch:
    counts: dict[str, int] = {}
    letters: list[DeadLetter] = []
    for action, outcome in ended:
        name = f"after_{outcome.result}"
        counts[name] = counts.get(name, 0) + 1
        if outcome.result != "done":
            text = f"could not {action.what} {action.key!r}: {outcome.detail}"
            level = logging.WARNING if outcome.result == "failed" else logging.INFO
            _log.log(level, "%s", ascii(text), extra={"action": name})
            if outcome.result == "failed":
                letters.append(DeadLetter("after_failed", text, action.key, event_uid=action.event or None))
    return Batch(
        seen=[outcome.seen for _, outcome in ended if outcome.seen is not None],
        actions_done=[action.uid for action, _ in ended],
        dead_letters=letters,
        counts=counts,
    )
