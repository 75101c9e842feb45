"""APIs that are asked at an interval: each new or changed item of a list is an event, and so is a change of a value.

In flow the answers of an API, page by page, within bounds; out flow events with the memory of each item. What a poll
found is durable page by page, but how far the sensor has come moves only with the last batch of a complete poll: a
page that fails, is cut off or must wait is asked for again, and nothing is skipped. From poll to poll the sensor looks
back by an overlap, since rows become visible late; ids and memory make each version of each item exactly one event.

Order: none is promised between items; the versions of one item come in the order in which they were seen.
"""

import asyncio
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from sensors.adapters import item_shape
from sensors.adapters.api_options import HttpOptions
from sensors.adapters.http_asking import Answer, Ask, Asking, shown_url
from sensors.adapters.http_auth import ask_signed, signer_of
from sensors.adapters.http_items import BODY_SCOPE, Reader, evaluator
from sensors.adapters.http_judge import Waits, judge
from sensors.adapters.http_paging import pager_maker
from sensors.adapters.http_poll import SHAPE, SHARD, Astray, Ended, Plan, Poll
from sensors.adapters.http_position import Position, take_up
from sensors.adapters.http_retry import item_again
from sensors.adapters.item_expect import Expectation
from sensors.adapters.item_memory import gone
from sensors.adapters.rate_limits import least_interval
from sensors.batch import Batch, Cursor, DeadLetter
from sensors.errors import BackOff, NotConnected
from sensors.hosts import Hosts, Outgoing
from sensors.kind import Emits, SensorContext, SensorKind
from sensors.netguard import NetGuard
from sensors.polling import Alarm, Interval
from sensors.ports import Lookup, Prefilter
from sensors.scan import KeyFilter
from sensors.sensor import Sensor

_IDLE = 60.0  # seconds after which a read says that nothing came
_FIRST = 25.0  # seconds for which `connect` waits for the first answer; the first read waits for the rest
_PAGE = 600.0  # seconds for one page with its turns, token and redirects; below the patience of the runner
_TRIES = 3  # how often a page in the middle of a poll is asked for again before the poll begins anew
_SWEEP = 1_000  # rows of memory looked at in one read


class ApiClient(Protocol):
    """What is needed of `sensors.adapters.http_client.Client`."""

    async def open(self) -> None:
        """Be ready to ask."""
        ...

    async def exchange(self, ask: Ask) -> Answer:
        """Ask once; return the answer, whatever its status."""
        ...

    async def close(self) -> None:
        """Let go; never raises."""
        ...


class HttpApi:
    """The pull sensor. `make_client` makes what sends requests; it may block, and is called in a thread."""

    def __init__(
        self, options: HttpOptions, context: SensorContext, make_client: Callable[[], ApiClient] | None = None
    ) -> None:
        self._options = options
        self._clock = context.clock
        self._outgoing = context.outgoing or Outgoing(NetGuard(), Hosts(context.clock))
        self._make_client = make_client or (lambda: _client(options, context, self._outgoing))
        self._signer = signer_of(options.auth, context.clock, self._outgoing.hosts)
        self._plan = _plan(options, context)
        self._alarm = Alarm(context.clock)
        self._interval = Interval(context.clock, options.every)
        self._client: ApiClient | None = None
        self._lookup: Lookup | None = None
        self._position = Position("", 0)
        self._shape: Mapping[str, item_shape.Field] | None = None
        self._poll: Poll | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._greeting: Batch | None = None
        self._forgetting = False
        self._ended: Ended | None = None  # whose memory is still to be swept
        self._swept = ""
        self._unsteady = 0
        self._tries = 0  # how often in a row the same page failed
        self._completed: float | None = None
        self._trouble: str | None = None

    # -- the sensor contract ------------------------------------------------------------------------------------------
    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Take up the position, and ask for the first page: an API that does not answer is not connected."""
        options = self._options
        position, todo = take_up(
            cursors.get(SHARD), self._plan.source, options.start, options.cursor, self._clock.now()
        )
        self._position, self._shape = position, _shape_of(cursors.get(SHAPE)) if todo != "forget" else None
        self._greeting = Batch(cursors=(Cursor(SHARD, position.to_json()),)) if todo == "store" else None
        self._forgetting, self._ended, self._swept, self._lookup = todo == "forget", None, "", lookup
        try:
            self._client = await asyncio.to_thread(self._make_client)
            await self._client.open()
            self._begin()
            await self._fetch(_FIRST)
        except BaseException:
            await self.close()
            raise

    async def read(self) -> Batch:
        """Wait until it is time to ask, or go on with the poll that is under way."""
        if self._forgetting:
            return await self._forget()
        if self._greeting is not None:
            batch, self._greeting = self._greeting, None
            return batch
        if self._ended is not None:
            return await self._sweep(self._ended)
        if self._poll is None:
            rung = await self._alarm.wait(min(_IDLE, self._interval.remaining()))
            if not rung and self._interval.remaining() > 0:
                return Batch()
            self._begin()
        return await self._go_on()

    async def close(self) -> None:
        """Give up what is under way, and let go."""
        task, self._fetching = self._fetching, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._poll = self._ended = None
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def retry(
        self, uid: str, letter: DeadLetter, cursors: Mapping[str, Cursor], lookup: Lookup, at: int
    ) -> Batch:
        """Judge an item that was refused, or had no identity, by today's options; see `sensors.retrying.Retryable`."""
        return item_again(self._plan, letter, at)

    def poll(self) -> None:
        """Ask now; a host that is to be left alone still is."""
        self._alarm.ring()

    def lag(self) -> float | None:
        """Return the seconds since the end of the last complete poll; None before the first one."""
        return None if self._completed is None else self._clock.monotonic() - self._completed

    def trouble(self) -> str | None:
        """Return what the last complete poll found wrong."""
        return self._trouble

    # -- a poll -------------------------------------------------------------------------------------------------------
    def _begin(self) -> None:
        self._interval.restart()
        self._poll = Poll(self._plan, self._position, self._shape, self._clock.now())

    async def _go_on(self) -> Batch:
        poll = self._poll
        if poll is None or self._lookup is None:
            raise NotConnected("not connected")
        if not poll.items and poll.ask is not None:
            try:
                await self._fetch()
            except Waits as pause:
                await self._clock.sleep(min(_IDLE, pause.wait))
                return Batch()
            except NotConnected as error:
                self._try_again(poll, error)
                raise
            self._tries = 0
        if poll.items:
            return await poll.slice(self._lookup, self._clock.now())
        return Batch() if poll.ask is not None else self._end(poll)

    def _try_again(self, poll: Poll, error: NotConnected) -> None:
        """Raise BackOff when what failed is one page of many: a long list would else hardly ever be read to its end."""
        if poll.pages == 0 or self._tries >= _TRIES or isinstance(error, Astray):
            self._tries = 0
            return
        self._tries += 1
        wait = 2.0**self._tries
        raise BackOff(f"page {poll.pages + 1} is asked for again in {wait:g} s: {error}", wait) from error

    async def _fetch(self, within: float | None = None) -> None:
        """Have the next page taken; give up waiting after `within` seconds, not the request."""
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._ask())
        done, _ = await asyncio.wait({self._fetching}, timeout=within)
        if done:
            task, self._fetching = self._fetching, None
            task.result()

    async def _ask(self) -> None:
        poll, client = self._poll, self._client
        if poll is None or poll.ask is None or client is None:
            raise NotConnected("not connected")
        try:
            async with asyncio.timeout(_PAGE):
                answer, retried = await ask_signed(poll.ask, self._signer, client.exchange)
        except TimeoutError:
            raise NotConnected(
                f"{self._plan.source}: one page took more than 10 minutes, with turns, token and redirects; lower "
                "`timeout`, or raise `per_host`"
            ) from None
        judge(answer, self._outgoing.hosts, self._clock.now(), retried=retried)
        poll.take(answer)
        wished = least_interval(answer.headers)
        if wished > self._interval.remaining():
            self._interval.restart(wished)

    def _end(self, poll: Poll) -> Batch:
        ended = poll.end(self._clock.now(), self._unsteady)
        self._poll = None
        self._position, self._shape = ended.position, ended.shape
        self._unsteady = 0 if ended.steady else self._unsteady + 1
        self._completed, self._trouble = self._clock.monotonic(), ended.trouble
        if ended.shown is not None or ended.below is not None:
            self._ended = ended
            self._swept = "" if ended.shown is not None else self._swept
        if self._interval.remaining() <= 0:  # a poll that takes longer than the interval leaves a pause
            self._interval.restart()
        return ended.batch

    # -- memory -------------------------------------------------------------------------------------------------------
    async def _sweep(self, ended: Ended) -> Batch:
        """Look through a page of memory for what may be forgotten: all of it where absence counts, else one page."""
        if self._lookup is None:
            raise NotConnected("not connected")
        rows = await self._lookup.seen_range(self._swept, None, _SWEEP)
        shown: KeyFilter | None = ended.shown
        writes, forget = gone(rows, shown, ended.below, self._clock.now(), self._options.remember)
        self._swept = rows[-1].key if len(rows) == _SWEEP else ""
        if shown is None or not self._swept:
            self._ended = None
        return Batch(seen=writes, forget=forget)

    async def _forget(self) -> Batch:
        """Forget all items of a former source, page by page; then store the new position."""
        if self._lookup is None:
            raise NotConnected("not connected")
        rows = await self._lookup.seen_range("", None, _SWEEP)
        if rows:
            return Batch(forget=[row.key for row in rows])
        self._forgetting = False
        shape = Cursor(SHAPE, item_shape.to_json({}))
        return Batch(cursors=(Cursor(SHARD, self._position.to_json()), shape))


def _plan(options: HttpOptions, context: SensorContext) -> Plan:
    parts: dict[str, Any] = {"url": options.url, "query": dict(options.query), "headers": dict(options.headers)}
    asking = Asking(options.method, {**parts, "json": options.json_, "body": options.body}, context)
    make_pager = pager_maker(options.paging, lambda text, what: evaluator(text, BODY_SCOPE, what, context))
    reader = None
    if options.watches_items:
        reader = Reader(options.items or "body", options.id, options.version, options.high, context)
    return Plan(
        sensor=context.name,
        source=shown_url(options.url.partition("${{")[0]),
        asking=asking,
        make_pager=make_pager,
        max_pages=1 if options.paging is None else options.paging.max_pages,
        reader=reader,
        high=options.high is not None,
        overlap=options.overlap,
        on=frozenset(options.on),
        changed=None if options.changed is None else evaluator(options.changed, BODY_SCOPE, "changed", context),
        expectation=None if options.expect is None else Expectation(options.expect),
    )


def _client(options: HttpOptions, context: SensorContext, outgoing: Outgoing) -> ApiClient:
    module = importlib.import_module("sensors.adapters.http_client")
    caps = module.Caps(options.timeout, options.read_timeout, options.max_body, options.per_host)
    bundle = None if options.ca_bundle is None else context.base / Path(options.ca_bundle)
    client: ApiClient = module.Client(outgoing, caps, f"tidegate/{context.service}", bundle)
    return client


def _shape_of(cursor: Cursor | None) -> Mapping[str, item_shape.Field] | None:
    if cursor is None:
        return None
    try:
        return item_shape.from_json(cursor.value) or None
    except ValueError as error:
        raise NotConnected(f"{error}; was it written by a newer version?") from error


def build(options: HttpOptions, context: SensorContext) -> Sensor:
    """Make the sensor; nothing is opened. Raises ValueError with a sentence."""
    return HttpApi(options, context)


KIND = SensorKind(
    name="http",
    help="items of an HTTP API that is asked at an interval: new ones, changed ones, and changes of a value",
    options=HttpOptions,
    build=build,
    single=True,
    emits=Emits(
        types={
            "http.item.created": "an item is there that is not remembered",
            "http.item.changed": "an item has another version than any that is remembered",
            "http.changed": "the value of `changed` is another than in the poll before",
            "http.schema.changed": "fields of the items came, went or changed their type; each change once",
        },
        subject="the item's id; none for http.changed and http.schema.changed",
        time="the item's `high` where that is a moment; else none",
        data="the item as JSON; of http.changed previous and current; of http.schema.changed added (name, types), "
        "removed (names) and retyped (name, expected, found)",
        attributes="none",
        sample={
            "id": "inv-1042@2026-01-31T06:00:00Z",
            "source": "https://api.example.com/invoices",
            "type": "http.item.created",
            "subject": "inv-1042",
            "time": "2026-01-31T06:00:00Z",
            "content_type": "application/json",
            "data": {"id": "inv-1042", "amount": 99.5, "updated_at": "2026-01-31T06:00:00Z"},
        },
    ),
)
