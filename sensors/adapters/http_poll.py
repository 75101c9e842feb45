"""One poll of an API: page after page, slice after slice, and at its end everything that only a complete poll may move.

In flow answers, out flow batches: the events of each slice of items with what is to be remembered of them, and last one
with the position, the form of the items and the watched value. A page that cannot be read whole is not used at all; the
poll stays where it is and may be gone on with.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sensors.adapters import item_shape
from sensors.adapters.high_water import Mark, Overlap, lowered, moment_mark
from sensors.adapters.http_asking import Answer, Ask, Asking, shown_url
from sensors.adapters.http_items import BadAnswer, BadItem, Evaluate, Item, Reader, canonical, content_hash, parse
from sensors.adapters.http_paging import OnePage, Page, Pager, PagingError, next_link
from sensors.adapters.http_position import Position
from sensors.adapters.item_expect import Expectation
from sensors.adapters.item_memory import UNREADABLE, Pages, Remembered, unreadable
from sensors.batch import Batch, Cursor, DeadLetter
from sensors.errors import NotConnected
from sensors.event import Event
from sensors.ports import Lookup
from sensors.scan import KeyFilter
from sensors.uid import EVENT, new_uid
from sensors.w3c import parse_traceparent

SLICE: Final = 500  # items judged at once
SHARD: Final = ""
SHAPE: Final = "schema"
CREATED, CHANGED = "http.item.created", "http.item.changed"
VALUE, SCHEMA = "http.changed", "http.schema.changed"
JSON: Final = "application/json"
_LARGEST_VALUE: Final = 64 * 1024
_LOOK_BACK: Final = 300.0  # seconds of the overlap when none is given and `high` gives moments


class Astray(NotConnected):
    """The pages lead nowhere: asking for the same one again cannot help."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all polls of a sensor have in common. `reader` is None where only a value is watched."""

    sensor: str
    source: str
    asking: Asking
    make_pager: Callable[[], Pager]
    max_pages: int
    reader: Reader | None
    high: bool
    overlap: Overlap | None
    on: frozenset[str]
    changed: Evaluate | None
    expectation: Expectation | None


@dataclass(slots=True)
class Ended:
    """What a complete poll left behind."""

    batch: Batch
    position: Position
    shape: Mapping[str, item_shape.Field] | None
    below: Mark | None = None  # what is asked from next
    shown: KeyFilter | None = None  # the keys of all items, where absence counts
    trouble: str | None = None
    steady: bool = True


def asks_from(plan: Plan, position: Position) -> Mark | None:
    """Return the mark that the next poll asks from; None for everything. Raises OverlapMisfit."""
    mark = position.mark
    if mark is None:
        return None if position.start == 0 else moment_mark(position.start)
    overlap = plan.overlap
    if overlap is None:
        overlap = Overlap(seconds=_LOOK_BACK) if mark.kind == "moment" else Overlap()
    return lowered(mark, overlap)


@dataclass(slots=True, repr=False)
class Poll:
    """A poll under way. `ask` is what comes next, None when all pages were read; `items` wait to be judged."""

    plan: Plan
    position: Position
    shape: Mapping[str, item_shape.Field] | None
    begun: int
    ask: Ask | None = field(init=False)
    items: list[Any] = field(init=False, default_factory=list)
    unchanged: bool = field(init=False, default=False)
    _pager: Pager = field(init=False)
    _pages: Pages = field(init=False)
    _request: str = field(init=False)
    _asked: set[bytes] = field(init=False, default_factory=set)
    _bodies: dict[bytes, int] = field(init=False, default_factory=dict)
    _number: int = field(init=False, default=0)
    _page: Page = field(init=False)
    _sample: item_shape.Sample = field(init=False, default_factory=item_shape.Sample)
    _validators: tuple[str, str] = field(init=False, default=("", ""))
    _value: str | None = field(init=False, default=None)
    _troubles: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Raise NotConnected when the request cannot be made."""
        try:
            since = asks_from(self.plan, self.position)
            ask = self.plan.asking.ask(None if since is None else since.value, self.begun)
        except ValueError as error:  # also one of the overlap
            raise NotConnected(str(error)) from error
        self._pager = self.plan.make_pager()
        self._request = _hash_of(ask).hex()
        self._pages = Pages(self.begun, shown=None if self.plan.high or self.plan.reader is None else KeyFilter())
        first = self._pager.first(ask)
        # The validators of one page say nothing of the others: they are used only where there is but one.
        if isinstance(self._pager, OnePage) and self._request == self.position.request:
            if self.position.etag:
                first = first.with_header("If-None-Match", self.position.etag)
            if self.position.modified:
                first = first.with_header("If-Modified-Since", self.position.modified)
        self.ask = first

    @property
    def pages(self) -> int:
        """Return how many pages were taken."""
        return self._number

    # -- a page ---------------------------------------------------------------------------------------------------
    def take(self, answer: Answer) -> None:
        """Take the answer to `ask`: its items wait, and `ask` leads on. Raises NotConnected; then nothing changed."""
        if answer.status == 304:
            self.unchanged, self.ask = True, None
            return
        at = shown_url(answer.url)
        try:
            self._take(answer)
        except BadAnswer as error:
            said = answer.headers.get("content-type", "").split(";")[0].strip()[:60]
            known = f" (it says {said})" if said and "json" not in said.lower() else ""
            raise NotConnected(f"the answer of {at}{known} cannot be used: {error}") from error
        except PagingError as error:
            raise Astray(f"{at}: {error}") from error

    def _take(self, answer: Answer) -> None:
        ask = self.ask
        if ask is None:
            return
        body = None if answer.status == 204 else parse(answer.body)
        items = [] if self.plan.reader is None else self.plan.reader.items(body, answer.headers)
        page = Page(answer.url, answer.headers, body, items)
        print_ = hashlib.sha256(answer.body).digest()[:16]
        if items and print_ in self._bodies:
            raise PagingError(
                f"paging leads in a circle: page {self._number + 1} is the same as page {self._bodies[print_] + 1}; "
                "correct `paging`"
            )
        following = self._pager.next(ask, page)
        asked = self._asked | {_hash_of(ask)}
        if following is not None:
            if _hash_of(following) in asked:
                raise PagingError(f"paging leads in a circle: after page {self._number + 1} an earlier one comes again")
            if self._number + 1 >= self.plan.max_pages:
                raise PagingError(
                    f"there are more than {self.plan.max_pages} pages (`paging.max_pages`); raise it, or ask for less"
                )
        if self._number == 0:
            self._look(page, answer)
        self._asked, self._page, self.items, self.ask = asked, page, list(items), following
        self._bodies.setdefault(print_, self._number)
        self._number += 1

    def _look(self, page: Page, answer: Answer) -> None:
        """See to what the first page says of the whole list."""
        self._validators = answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
        if isinstance(self._pager, OnePage) and self.plan.reader is not None and next_link(page.headers) is not None:
            self._troubles.append(
                "the list has more pages (its header `Link` says so), and only the first is read: write "
                "`paging: {by: link}`"
            )
        if self.plan.changed is not None:
            try:
                value = canonical(self.plan.changed({"body": page.body, "headers": page.headers}))
            except Exception as error:  # noqa: BLE001 - whatever the expression raises is told, and changes nothing
                self._troubles.append(f"`changed` cannot be evaluated on the answer: {error}")
                return
            if len(value) > _LARGEST_VALUE:
                self._troubles.append("`changed` gives more than 64 KiB; let it give a part, or a count")
                return
            self._value = value.decode()

    # -- a slice --------------------------------------------------------------------------------------------------
    async def slice(self, lookup: Lookup, now: int) -> Batch:
        """Judge the next items, and return what they mean."""
        taken, rest = self.items[:SLICE], self.items[SLICE:]
        found: list[tuple[Any, Item]] = []
        bad: dict[str, DeadLetter] = {}
        for value in taken:
            try:
                found.append((value, self._identified(value)))
            except BadItem as error:
                data = canonical(value)
                bad[UNREADABLE + content_hash(data)] = DeadLetter(
                    "bad_item", str(error)[:2000], self.plan.source, data, JSON
                )
        keys = list(dict.fromkeys([*(item.key for _, item in found), *bad]))
        memory = Remembered(dict(await lookup.seen(keys)))
        pages, events, ignored = self._pages, list[Event](), 0
        refused: list[DeadLetter] = []
        for value, item in found:
            self._sample.add(value)
            self._note(item)
            what = memory.judge(item, self.position, pages, now)
            if what not in ("created", "changed"):
                ignored += what == "silent"
                continue
            event = self._event(item, CREATED if what == "created" else CHANGED, now)
            letter = None if self.plan.expectation is None else self.plan.expectation.letter(value, event)
            if letter is not None:
                memory.refuse(item, what)
                refused.append(letter)
            elif what in self.plan.on:
                events.append(event)
            else:
                ignored += 1
        letters = [letter for key, letter in bad.items() if key not in memory.rows]
        rows = [*memory.writes.values(), *(unreadable(key, now) for key in bad if key not in memory.rows)]
        if pages.shown is not None:
            for key in bad:
                pages.shown.add(key)
        self.items = rest
        counts = {name: n for name, n in (("ignored", ignored), ("refused", len(refused))) if n}
        return Batch(events=events, seen=rows, dead_letters=[*letters, *refused], counts=counts)

    def _identified(self, value: Any) -> Item:
        if self.plan.reader is None:
            raise BadItem("no items are read")
        return self.plan.reader.identify(value, self._page.body, self._page.headers)

    def _note(self, item: Item) -> None:
        pages = self._pages
        pages.count += 1
        pages.nameless += not item.known
        if item.mark is not None:
            known = pages.top or self.position.mark
            if known is not None and known.kind != item.mark.kind:
                pages.unmarked += 1
            elif item.mark.above(pages.top):
                pages.top = item.mark

    def _event(self, item: Item, type_: str, now: int) -> Event:
        return Event(
            sensor=self.plan.sensor,
            id=item.id,
            uid=new_uid(EVENT, now),
            source=self.plan.source,
            type=type_,
            received_at=now,
            subject=item.subject,
            time=None if item.mark is None else item.mark.micros,
            data=item.data,
            content_type=JSON,
            traceparent=self._traceparent(),
        )

    def _traceparent(self) -> str | None:
        given = self._page.headers.get("traceparent")
        return given if parse_traceparent(given) is not None else None

    # -- the end --------------------------------------------------------------------------------------------------
    def end(self, now: int, unsteady: int) -> Ended:
        """Return what a complete poll moves. `unsteady` polls before this one saw the list move as well."""
        pages, position = self._pages, self.position
        if self.unchanged:
            return Ended(Batch(), position, self.shape, trouble=None)
        moved = not self._pager.steady or (self._pager.counts and pages.moved)
        after = replace(position, baseline=position.baseline or not moved or unsteady >= 2)
        if not moved:
            after = replace(after, high=self._high())
            if isinstance(self._pager, OnePage):
                etag, modified = self._validators
                after = replace(after, etag=etag, modified=modified, request=self._request if etag or modified else "")
        events: list[Event] = []
        if self._value is not None and self._value != position.value:
            after = self._told(after, events, now)
        shape, cursors = self._shaped(events, now)
        if after != position:
            cursors.append(Cursor(SHARD, after.to_json()))
        if moved and unsteady >= 2:
            self._troubles.append(
                "the list moves while its pages are read, so it is read again from the same place: let the API order "
                "it by a field that does not change, or use `paging: {by: cursor}`"
            )
        if pages.unmarked:
            self._troubles.append(
                f"`high` gives values of different kinds, and {pages.unmarked} of them do not compare: let it give one"
            )
        if self.plan.reader is not None and pages.count and pages.nameless == pages.count and self.plan.reader.named:
            self._troubles.append("`id` gives nothing for any item, so each is known by its content; correct `id`")
        return Ended(
            Batch(events=events, cursors=cursors),
            after,
            shape,
            below=None if moved else asks_from(self.plan, after),
            shown=None if moved else pages.shown,
            trouble="; ".join(self._troubles) or None,
            steady=not moved,
        )

    def _high(self) -> int | float | str | None:
        """Return the new mark: the highest seen, but no moment in the future, or what comes later would be missed."""
        known, top = self.position.mark, self._pages.top
        if top is None:
            return self.position.high
        micros = top.micros
        if micros is not None and micros > self.begun:
            top = moment_mark(self.begun, like=top)
        return top.value if top.above(known) else self.position.high

    def _told(self, after: Position, events: list[Event], now: int) -> Position:
        before, value = self.position.value, str(self._value)
        first = before is None and self.position.now
        after = replace(after, value=value, told=after.told + (not first))
        if not first and self.plan.changed is not None:
            data = f'{{"previous":{before or "null"},"current":{value}}}'.encode()
            events.append(self._own(f"changed#{after.since}.{after.told}", VALUE, data, now))
        return after

    def _shaped(self, events: list[Event], now: int) -> tuple[Mapping[str, item_shape.Field] | None, list[Cursor]]:
        if not self._sample.count or "schema" not in self.plan.on:
            return self.shape, []
        if self.shape is None:
            learned: Mapping[str, item_shape.Field] = self._sample.fields()
            return learned, [Cursor(SHAPE, item_shape.to_json(learned))]
        learned, change = item_shape.compare(self.shape, self._sample)
        if learned == self.shape:
            return self.shape, []
        text = item_shape.to_json(learned)
        if change:
            data = json.dumps(change.data(), separators=(",", ":")).encode()
            id_ = f"schema#{self.position.since}.{content_hash(text.encode())[7:39]}"
            events.append(self._own(id_, SCHEMA, data, now))
        return learned, [Cursor(SHAPE, text)]

    def _own(self, id_: str, type_: str, data: bytes, now: int) -> Event:
        return Event(
            sensor=self.plan.sensor,
            id=id_,
            uid=new_uid(EVENT, now),
            source=self.plan.source,
            type=type_,
            received_at=now,
            data=data,
            content_type=JSON,
        )


def _hash_of(ask: Ask) -> bytes:
    return hashlib.sha256(f"{ask.method} {ask.target}\0".encode() + (ask.payload or b"")).digest()[:16]
