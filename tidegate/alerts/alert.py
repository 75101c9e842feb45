"""Alerts as values: what happened, in words for people; and the table of kinds.

`key` says what belongs together: alerts of one key are gathered into one message, and one that `ends` closes what the
others opened. `id` is made of what the alert tells of, so that the same fact raised twice is one alert. Text comes from
outside and is hostile: it is cut and cleaned here, once, for everybody who shows it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sensors.event import EMPTY

MAX_TEXT: Final = 500
MAX_NAME: Final = 200
_MAX_STORED: Final = 300
SEVERITIES: Final = ("info", "warning", "error")


@dataclass(frozen=True, slots=True)
class AlertKind:
    """A kind of alert. `one` and `many` say what happened: "run failed", "runs failed".

    `over` says that it has ended (None: it is a matter of a moment and has no end). `state` kinds last until they end:
    the same again is no news, and they are told again while they go on.
    """

    one: str
    many: str
    about: str  # what the subject is
    over: str | None = None
    state: bool = False


KINDS: Final[Mapping[str, AlertKind]] = {
    "run_failed": AlertKind("run failed", "runs failed", "pipeline", "runs succeed again"),
    "run_late": AlertKind("run is late", "runs are late", "pipeline", "no run is late any more"),
    "check_failed": AlertKind("check failed", "checks failed", "dataset", "checks pass again"),
    "sensor_unhealthy": AlertKind(
        "sensor is unhealthy", "reports of an unhealthy sensor", "sensor", "sensor recovered", state=True
    ),
    "dataset_stale": AlertKind("dataset is stale", "reports of stale data", "dataset", "dataset is fresh", state=True),
    "probe_failed": AlertKind(
        "probe failed", "probes failed", "dataset", "it can be told again how fresh the data is", state=True
    ),
    "dead_letter": AlertKind("dead letter", "dead letters", "sensor"),
    "event_refused": AlertKind("event refused", "events refused", "sensor"),
    "join_overdue": AlertKind("join is overdue", "joins are overdue", "trigger"),
    "set_overdue": AlertKind("set of files is overdue", "sets of files are overdue", "sensor", "no set is overdue"),
    "trigger_error": AlertKind("trigger failed on an event", "errors of a trigger", "trigger"),
    "schedule_missed": AlertKind("schedule missed", "schedules missed", "trigger"),
    "config_refused": AlertKind(
        "changed configuration refused",
        "changed configurations refused",
        "service",
        "configuration is accepted",
        state=True,
    ),
    "alert_undelivered": AlertKind(
        "alert cannot be delivered", "alerts cannot be delivered", "route", "alerts are delivered again", state=True
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that people are told. `at` is UTC microseconds; `count` is how many things it stands for.

    `pipeline`, `sensor`, `trigger`, `dataset` and `tags` are what routes match; `refs` are uids by kind of thing.
    `began` says of an alert that `ends`: only what happened until then has ended (None: all of it).
    """

    kind: str
    id: str
    key: str
    subject: str
    at: int
    text: str
    severity: str = "error"
    count: int = 1
    ends: bool = False
    began: int | None = None
    pipeline: str = ""
    sensor: str = ""
    trigger: str = ""
    dataset: str = ""
    tags: frozenset[str] = frozenset()
    refs: Mapping[str, str] = field(default_factory=lambda: EMPTY)

    @property
    def group(self) -> str:
        """Return the key as it is stored."""
        return stored_name(self.key)


def stored_name(text: str) -> str:
    """Return a name that every store takes and that stays apart from others: long or odd ones end with a digest."""
    if len(text) <= _MAX_STORED and text.isprintable():
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]
    return f"{readable(text, _MAX_STORED)}#{digest}"


def readable(text: str, limit: int = MAX_TEXT) -> str:
    """Return text fit for one line of a message: no control or invisible characters, bounded.

    A line break becomes a space; what could hide or turn round other text (controls, bidirectional marks, lone
    surrogates) becomes a replacement mark.
    """
    flat = " ".join(text[: 8 * limit].split())
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in flat)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
