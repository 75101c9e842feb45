"""Messages for people who were asleep: what, where, since when; why; where to look; how many. Pure.

The JSON body is what HTTP targets get, and a promise (docs/how-to/get-alerts.md); its `title` and `text` are what all
others get. Names and texts in it were cleaned when the alert was raised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from tidegate.alerts.alert import KINDS, SEVERITIES
from tidegate.alerts.grouping import Told
from tidegate.event_view import rfc3339
from tidegate.store.alert_records import AlertRow
from tidegate.wording import lasting

VERSION = 1
_LINES = 20  # groups that a digest names
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Place:
    """Where messages come from: the service's name, the route, where its console is."""

    service: str
    route: str
    base_url: str


@dataclass(frozen=True, slots=True)
class Part:
    """What a message tells of one group, with the alerts that have words of their own."""

    told: Told
    alerts: Sequence[AlertRow]
    ended: AlertRow | None = None

    @property
    def severity(self) -> str:
        """Return the severest of its alerts."""
        shown = [row.severity for row in (*self.alerts, self.ended) if row is not None]
        return max(shown, key=SEVERITIES.index, default="error")


def body_of(uid: str, place: Place, part: Part, now: int) -> dict[str, Any]:
    """Return the body of a message about one group."""
    head, lines = _head(part, now), _lines(part)
    link = _link(place, part)
    title = f"[{place.service}] {head}"
    text = "\n".join([*lines, link, f"{uid} to {place.route}"])
    return {
        **_envelope(uid, place, part.told.what, now),
        "severity": part.severity,
        "title": title,
        "text": text,
        "link": link,
        **_group(place, part),
    }


def digest_of(uid: str, place: Place, parts: Sequence[Part], now: int) -> dict[str, Any]:
    """Return the body of a message about many groups: what the limit of the route did not let through one by one."""
    count = sum(part.told.count for part in parts)
    title = f"[{place.service}] {count} alerts in {len(parts)} groups, more than {place.route} takes one by one"
    lines = [f"- {_head(part, now)}" for part in parts[:_LINES]]
    if len(parts) > _LINES:
        lines.append(f"… and {len(parts) - _LINES} more groups")
    link = _list_of(place)
    return {
        **_envelope(uid, place, "digest", now),
        "severity": max((part.severity for part in parts), key=SEVERITIES.index),
        "title": title,
        "text": "\n".join([*lines, link, f"{uid} to {place.route}"]),
        "link": link,
        "count": count,
        "groups": [_group(place, part) for part in parts[:_LINES]],
        "omitted": max(0, len(parts) - _LINES),
    }


def trial_body(uid: str, place: Place, now: int) -> dict[str, Any]:
    """Return the body of a test message."""
    title = f"[{place.service}] test of alerts.{place.route}"
    return {
        **_envelope(uid, place, "test", now),
        "severity": "info",
        "title": title,
        "text": f"If you read this, messages of {place.route} arrive.\n{place.base_url}\n{uid} to {place.route}",
        "link": place.base_url,
    }


def _envelope(uid: str, place: Place, what: str, now: int) -> dict[str, Any]:
    return {
        "version": VERSION,
        "id": uid,
        "what": what,
        "service": place.service,
        "route": place.route,
        "at": rfc3339(now),
    }


def _group(place: Place, part: Part) -> dict[str, Any]:
    told = part.told
    return {
        "kind": told.group.kind,
        "subject": told.group.subject,
        "since": rfc3339(told.group.since),
        "over": told.ended is not None,
        "count": told.count,
        "total": told.group.total,
        "alerts": [_alert(place, row) for row in part.alerts],
        "ended": None if part.ended is None else _alert(place, part.ended),
    }


def _alert(place: Place, row: AlertRow) -> dict[str, Any]:
    labels: Mapping[str, Any] = row.labels
    return {
        "uid": row.uid,
        "severity": row.severity,
        "at": rfc3339(row.at),
        "count": row.count,
        "text": row.text,
        "labels": {name: value for name, value in labels.items() if name != "refs"},
        "refs": labels.get("refs", {}),
        "link": link_of(place.base_url, labels),
    }


def _head(part: Part, now: int) -> str:
    """Return the first line: what, where, since when."""
    told, kind = part.told, KINDS[part.told.group.kind]
    since = f"since {_clock(told.group.since)}"
    where = f"{kind.about} {told.group.subject}"
    if told.what == "resolved":
        took = lasting(max(0, now - told.group.since) / 1e6)
        return f"RESOLVED {kind.over}: {where}, after {took} ({since})"
    if told.what == "reminder":
        return f"STILL {kind.one}: {where}, {since}"
    first = told.count == told.group.total
    if told.count == 1:
        what = kind.one if first else f"another {kind.one}"
    else:
        what = f"{told.count} {'' if first else 'more '}{kind.many}"
    level = part.severity.upper()
    return f"{level} {what}: {where}, {since}" + (", over by now" if told.ended is not None else "")


def _lines(part: Part) -> list[str]:
    """Return the sentences that say why, then how many there were."""
    told = part.told
    lines = [f"{row.text}" + (f" ({row.count} of these)" if row.count > 1 else "") for row in part.alerts]
    named = sum(row.count for row in part.alerts)
    if told.count > named:
        lines.append(f"… and {told.count - named} more")
    if part.ended is not None:
        lines.append(part.ended.text)
    if told.group.total > max(1, told.count):
        lines.append(f"{told.group.total} in all since it began")
    return lines


def _link(place: Place, part: Part) -> str:
    rows = [*part.alerts, *([part.ended] if part.ended is not None else [])]
    return link_of(place.base_url, rows[0].labels) if rows else _list_of(place)


def _list_of(place: Place) -> str:
    return f"{place.base_url}/api/v1/alerts?route={quote(place.route)}"


def link_of(base_url: str, labels: Mapping[str, Any]) -> str:
    """Return where to look: the run, the dead letter, the event, the sensor or the trigger; else the console."""
    refs: Mapping[str, str] = labels.get("refs", {})
    if "run" in refs:
        return f"{base_url}/console/runs/{quote(refs['run'])}"
    if "dead_letter" in refs:
        return f"{base_url}/api/v1/dead-letters/{quote(refs['dead_letter'])}"
    if "event" in refs:
        return f"{base_url}/console/events/{quote(refs['event'])}"
    for label in ("sensor", "trigger"):
        if label in labels:
            return f"{base_url}/api/v1/{label}s/{quote(labels[label], safe='')}"
    return base_url


def _clock(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%d %H:%M:%S UTC")
