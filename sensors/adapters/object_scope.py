"""Which objects count, and what their events look like. Pure.

In flow options and objects as they were listed, out flow verdicts, prefixes to list, and events. Keys are hostile text:
they are told as they are, and one that no text column takes is named by its escaped form.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

import orjson

from sensors.adapters.object_options import ObjectOptions
from sensors.adapters.object_steps import CompleteSet, ObjectChange
from sensors.adapters.objects import Hint, Listed
from sensors.batch import SeenObject
from sensors.event import Event, storable_text
from sensors.listing import What
from sensors.patterns import Pattern, compile_pattern
from sensors.uid import EVENT, new_uid

Left = Literal["pattern", "ignore", "min_size", "odd"]
_DATE = re.compile(r"\{(%[^{}]*)\}")
_DIGITS: Mapping[str, str] = {"Y": r"\d{4}", **dict.fromkeys("mdHMSyj", r"\d+")}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TYPES: Mapping[str, What] = {
    "created": What.CREATED,
    "overwritten": What.OVERWRITTEN,
    "renamed": What.RENAMED,
    "deleted": What.DELETED,
}


@dataclass(frozen=True, slots=True)
class ObjectScope:
    """What a sensor on object storage watches. `place` is the source's."""

    sensor: str
    place: str
    prefix: str
    literal: str
    days: int
    pattern: Pattern | None
    min_size: int
    types: frozenset[What]
    ignores: "re.Pattern[str]" = field(repr=False)
    dated: "re.Pattern[str]" = field(repr=False)  # what keys below the prefix begin with, on whatever day

    @staticmethod
    def of(options: ObjectOptions, sensor: str, place: str, literal: str | None = None) -> "ObjectScope":
        """Make the scope of options. Raises ValueError where prefix and pattern exclude each other.

        `literal` is what all keys that matter begin with (by default what all that match the pattern do).
        """
        prefix = options.prefix
        pattern = compile_pattern(options.pattern) if options.pattern else None
        start = _DATE.split(prefix)[0]
        if pattern is not None and not (pattern.prefix.startswith(start) or start.startswith(pattern.prefix)):
            raise ValueError(
                f"no key can begin with prefix {prefix!r} and match pattern {pattern.text!r}: "
                "the pattern is over the whole key, so let it begin with the prefix"
            )
        return ObjectScope(
            sensor,
            place,
            prefix,
            literal if literal is not None else pattern.prefix if pattern is not None else "",
            options.days,
            pattern,
            options.min_size,
            frozenset(_TYPES[name] for name in options.on),
            re.compile("|".join(map(fnmatch.translate, options.ignore)) or r"(?!)"),
            re.compile("".join(_any_day(n, part) for n, part in enumerate(_DATE.split(prefix)))),
        )

    def prefixes(self, now: int) -> list[str]:
        """Return the prefixes to list at a moment (UTC micros): disjoint, in key order, as narrow as can be."""
        if _DATE.search(self.prefix) is None:
            return [self.literal if self.literal.startswith(self.prefix) else self.prefix]
        today = _EPOCH + timedelta(microseconds=now)
        dated = {
            _DATE.sub(lambda found, day=day: day.strftime(found[1]), self.prefix)  # type: ignore[misc]
            for day in (today - timedelta(days=back) for back in range(self.days))
        }
        found: list[str] = []
        for prefix in sorted(dated, key=str.encode):
            if not found or not prefix.startswith(found[-1]):
                found.append(prefix)
        return found

    def left_out(self, listed: Listed) -> Left | None:
        """Say why an object is left out; None when it counts."""
        key = listed.key
        if self.pattern is not None and self.pattern.match(key) is None:
            return "pattern"
        if any(self.ignores.match(name) for name in key.split("/")):
            return "ignore"
        if listed.size < self.min_size:
            return "min_size"
        return None if storable_text(key) else "odd"

    def in_reach(self, key: str, prefixes: Sequence[str]) -> bool:
        """Say whether a key lies below what is watched at all; `prefixes` are those of this moment."""
        if _DATE.search(self.prefix) is None:
            return key.startswith(tuple(prefixes))
        return self.dated.match(key) is not None  # a notification tells of a day however long ago it was

    def counts_key(self, key: str) -> bool:
        """Say whether a remembered key is one that still counts, whatever its size was."""
        if self.pattern is not None and self.pattern.match(key) is None:
            return False
        return not any(self.ignores.match(name) for name in key.split("/"))

    def tells(self, what: What) -> bool:
        """Say whether this change is an event (`on`)."""
        return what in self.types

    # -- events -------------------------------------------------------------------------------------------------------
    def event(
        self, change: ObjectChange, now: int, url: str, more: Mapping[str, Any], what: What | None = None
    ) -> Event:
        """Return the event of a change. `more` goes into its data; `what` replaces the change's type."""
        seen, entry = change.seen, change.entry
        listed = entry.detail if entry is not None else None
        data = describe(listed, url) if listed is not None else _described(seen, url)
        return Event(
            sensor=self.sensor,
            id=change.id,
            uid=new_uid(EVENT, now),
            source=self.place,
            type=str(what or change.what),
            received_at=now,
            subject=seen.key,
            time=listed.modified if listed is not None else None,
            data=orjson.dumps({**data, **more}),
            content_type="application/json",
            match=(self.pattern.match(seen.key) if self.pattern else None) or {},
        )

    def event_of_set(
        self, found: CompleteSet, now: int, urls: Mapping[str, str], more: Mapping[str, Mapping[str, object]]
    ) -> Event:
        """Return the one event of a complete set; `urls`, and what else is told of a member, by key."""
        files = [{**describe(member, urls[member.key]), **more.get(member.key, {})} for member in found.members]
        data = {
            "key": found.subject,
            "url": f"{self.place}/{quote(found.subject)}",
            "count": len(files),
            "size": sum(member.size for member in found.members),
            "files": files,
        }
        return Event(
            sensor=self.sensor,
            id=found.id,
            uid=new_uid(EVENT, now),
            source=self.place,
            type=str(What.COMPLETED),
            received_at=now,
            subject=found.subject,
            time=found.time,
            data=orjson.dumps(data),
            content_type="application/json",
            match=found.match,
        )

    def event_of_folder(self, hint: Hint, now: int) -> Event:
        """Return the one event of a folder that was renamed with all that is in it."""
        data = {
            "key": hint.key,
            "name": hint.key.rstrip("/").rpartition("/")[2],
            "url": f"{self.place}/{quote(hint.key)}",
            "from": hint.old_key,
            "from_url": f"{self.place}/{quote(hint.old_key)}",
        }
        return Event(
            sensor=self.sensor,
            id=f"{hint.key}@{hint.sequencer or hint.time}#renamed",
            uid=new_uid(EVENT, now),
            source=self.place,
            type=str(What.RENAMED),
            received_at=now,
            subject=hint.key,
            time=hint.time,
            data=orjson.dumps(data),
            content_type="application/json",
        )


def _any_day(n: int, part: str) -> str:
    """Return the expression for a part of a dated prefix: literal text, and (every second one) what a date becomes."""
    if n % 2 == 0:
        return re.escape(part)
    return "".join(
        re.escape(text) if text[0] != "%" else _DIGITS.get(text[1:], ".+?") for text in re.findall(r"%.|[^%]+", part)
    )


def describe(listed: Listed, url: str) -> dict[str, Any]:
    """Return what is told of one object, as JSON data."""
    data: dict[str, Any] = {
        "key": listed.key,
        "name": listed.key.rpartition("/")[2],
        "size": listed.size,
        "etag": listed.etag,
        "modified": _rfc3339(listed.modified),
        "url": url,
    }
    if listed.version:
        data["version"] = listed.version
    if listed.content_type is not None:
        data |= {
            "content_type": listed.content_type,
            "metadata": dict(listed.metadata),
            "tags": dict(listed.tags),
        }
    return data


def _described(seen: SeenObject, url: str) -> dict[str, Any]:
    """Return what is known of an object that is gone."""
    data: dict[str, Any] = {"key": seen.key, "name": seen.key.rpartition("/")[2], "url": url}
    etag, _, rest = seen.token.partition("+")
    size, _, modified = rest.partition("+")
    if modified.isdecimal() and size.isdecimal():
        data |= {"size": int(size), "etag": etag, "modified": _rfc3339(int(modified) * 1_000_000)}
    return data


def _rfc3339(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%SZ")
