"""A listing under way: its pages fetched ahead, one for each part, and where it is, as text for the next process.

In flow a source and a scan, out flow pages as they come, part by part in order. A page that could not be judged is put
back: it is judged again, and nothing of it is lost. What was looked at by another route after a page had been asked for
is left out of that page, which knows less of it.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensors.adapters.object_queue import Incoming
from sensors.adapters.objects import Hint, Listed, ObjectPage, ObjectSource
from sensors.scan import Scan, Shard


@dataclass(frozen=True, slots=True)
class Taken:
    """A page, or a part of one, that is being judged.

    `rest` is what is left of the page for the next time, `next` what continues the listing behind it; `asked` is when
    the page was asked for (UTC micros), and `was` where its shard stood before.
    """

    shard: Shard
    objects: Sequence[Listed]
    asked: int
    rest: Sequence[Listed] = ()
    next: str | None = None
    was: tuple[str | None, bool, str] = (None, False, "")


@dataclass(slots=True, eq=False)
class Look:
    """A scan under way: of everything, or of a folder that a notification named, to be settled with its end.

    `folders` are those that are one event each, and their files none. `resumed`: no page has come since a restart.
    """

    scan: "Scan[Listed]"
    full: bool
    settles: Incoming | None = None
    folders: list[Hint] = field(default_factory=list)
    resumed: bool = False
    _pages: dict[str, "asyncio.Future[ObjectPage]"] = field(default_factory=dict)
    _older: dict[str, set[str]] = field(default_factory=dict)  # what was looked at since a page was asked for
    _asked: dict[str, int] = field(default_factory=dict)  # and when that was

    def touch(self, key: str) -> None:
        """Note that a key is looked at by another route."""
        self.scan.touch(key)
        for keys in self._older.values():
            keys.add(key)

    def fetch(self, source: ObjectSource, parallel: int, ring: Callable[[], None], now: int) -> None:
        """Keep pages coming: of so many shards at once, one page ahead each. `ring` is called when one came."""
        for shard in self.scan.shards:
            if len(self._pages) >= max(1, parallel):
                return
            if not shard.done and shard.prefix not in self._pages:
                after = shard.after if shard.token is None else ""
                task = asyncio.ensure_future(source.page(shard.prefix, shard.token, after))
                task.add_done_callback(lambda _: ring())
                self._pages[shard.prefix] = task
                self._older[shard.prefix] = set()
                self._asked[shard.prefix] = now

    def take(self, limit: int | None = None) -> Taken | None:
        """Return the next page that has come, None when none has. Raises what fetching it raised.

        `limit`: at most so many objects of it; the rest comes next.
        """
        for shard in self.scan.shards:
            task = self._pages.get(shard.prefix)
            if task is None or not task.done():
                continue
            del self._pages[shard.prefix]
            older = self._older.pop(shard.prefix, ())
            page = task.result()
            objects = [listed for listed in page.objects if listed.key not in older] if older else page.objects
            was = (shard.token, shard.done, shard.after)
            asked = self._asked[shard.prefix]
            if limit is not None and len(objects) > limit:
                self._keep(shard.prefix, ObjectPage(objects[limit:], page.next))
                return Taken(shard, objects[:limit], asked, objects[limit:], page.next, was)
            shard.token, shard.done = page.next, page.next is None
            return Taken(shard, objects, asked, (), page.next, was)
        return None

    def put_back(self, taken: Taken) -> None:
        """Have a page judged again: it could not be judged now."""
        ahead = self._pages.pop(taken.shard.prefix, None)
        if ahead is not None:
            ahead.cancel()
        taken.shard.token, taken.shard.done, taken.shard.after = taken.was
        self._keep(taken.shard.prefix, ObjectPage([*taken.objects, *taken.rest], taken.next))
        self._asked[taken.shard.prefix] = taken.asked

    def _keep(self, prefix: str, page: ObjectPage) -> None:
        again: asyncio.Future[ObjectPage] = asyncio.get_running_loop().create_future()
        again.set_result(page)
        self._pages[prefix] = again
        self._older[prefix] = set()

    def quiet_before(self, prefix: str) -> int | None:
        """Return when the folder of this part came by a rename that is one event (UTC micros); None: it did not."""
        times = [hint.time or self.scan.begun for hint in self.folders if prefix in (hint.key, hint.old_key)]
        return min(times, default=None)

    async def cancel(self) -> None:
        """Fetch nothing any more; pages that came are dropped, and fetched again if the scan goes on."""
        for task in self._pages.values():
            task.cancel()
        await asyncio.gather(*self._pages.values(), return_exceptions=True)
        self._pages.clear()
        self._older.clear()


@dataclass(frozen=True, slots=True)
class Former:
    """Where the scan of a former process was: when it begun (UTC micros), and each part's (done, token, after)."""

    begun: int
    shards: Mapping[str, tuple[bool, str | None, str]]


def scan_text(scan: "Scan[Listed]") -> str:
    """Return the text to store."""
    shards = {
        shard.prefix: [shard.done, shard.token, shard.after]
        for shard in scan.shards
        if shard.done or shard.token is not None or shard.after
    }
    return json.dumps({"v": 1, "begun": scan.begun, "shards": shards}, separators=(",", ":"))


def read_scan(text: str) -> Former | None:
    """Read where a scan was; None (it begins anew) for another version."""
    try:
        value: Any = json.loads(text)
        if value["v"] != 1:
            return None
        shards = {prefix: (bool(done), token, after) for prefix, (done, token, after) in value["shards"].items()}
        return Former(int(value["begun"]), shards)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
