"""Files in ADLS Gen2: those written, overwritten, renamed and deleted, also while the service was down.

In flow pages of the file system's listing, at an interval, which is the truth, and the events of Event Grid from a
storage queue, where there is one, which say where to look now; out flow pages of events with the memory of each file.
Both routes lead to the same event with the same id. A renamed folder is one notification, and its files are listed.

Order: none is promised between files; the events of one file come in the order in which its versions were seen.
"""

import re
from functools import partial
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sensors.adapters.adls_client import AdlsClient
from sensors.adapters.adls_source import AdlsSource
from sensors.adapters.azure_account import AzureAccount, AzureOptions, read_account
from sensors.adapters.object_build import Ways, make_object_sensor
from sensors.adapters.objects import NoticeQueue
from sensors.adapters.watched_options import WatchedOptions
from sensors.kind import Emits, SensorContext, SensorKind
from sensors.patterns import compile_pattern
from sensors.sensor import Sensor

_FILESYSTEM: Final = re.compile(r"\$root|\$web|[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]")
_QUEUE: Final = re.compile(r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]")


class AdlsNotifications(BaseModel):
    """Where Event Grid delivers the events of the file system's account."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: str | None = Field(None, description="the storage queue")
    webhook: str | None = Field(
        None, min_length=1, description="a webhook sensor (`format: event-grid`) to which Event Grid posts them"
    )
    connection: str | None = Field(None, description="of the account that has the queue, where it is another one")
    emit: Literal["file", "folder"] = Field(
        "file", description="what a renamed folder is: an event for each of its files, or one for the folder"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.queue is None) == (self.webhook is None):
            raise ValueError("write `queue` or `webhook`: one of them")
        if self.webhook is not None and self.connection is not None:
            raise ValueError("`connection` goes with `queue`; leave it out")
        return self

    @field_validator("queue")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and _QUEUE.fullmatch(value) is None:
            raise ValueError("must be a queue's name: 3 to 63 lower-case letters, digits and single hyphens")
        return value


class AdlsOptions(WatchedOptions, AzureOptions):
    """Options of `kind: adls`."""

    kind: Literal["adls"] = "adls"
    connection: str | None = Field(None, description="an entry of `connections` of kind azure, instead of an account")
    filesystem: str = Field(description="the file system (container)")
    path: str | None = Field(None, description="only paths that begin so, such as events/; the same as `prefix`")
    notifications: AdlsNotifications | None = None

    @field_validator("filesystem")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if _FILESYSTEM.fullmatch(value) is None:
            raise ValueError("must be a file system's name: 3 to 63 lower-case letters, digits and single hyphens")
        return value

    @model_validator(mode="before")
    @classmethod
    def _one_prefix(cls, data: Any) -> Any:
        """Have `path` and `prefix` mean the same; paths have no `/` at the beginning."""
        if not isinstance(data, dict):
            return data
        given = {
            name: text.lstrip("/") for name in ("path", "prefix") if isinstance(text := data.get(name), str) and text
        }
        if len(set(given.values())) > 1:
            raise ValueError("`path` and `prefix` are the same; write one of them")
        return {**data, **given, **({"prefix": given["path"]} if "path" in given else {})}


def build(options: AdlsOptions, context: SensorContext) -> Sensor:
    """Make the sensor; nothing is opened. ValueError when account, key or connection make no sense."""
    account = read_account(options, options.connection, context.connections)
    source = AdlsSource(AdlsClient(account, options.filesystem, probe=_probe(options)), context.clock)
    told = options.notifications
    queue = None if told is None else _queue(told, account, options.filesystem, context)
    ways = Ways(folders=told is not None and told.emit == "folder")
    return make_object_sensor(options, source, queue, context, ways)


def _queue(told: AdlsNotifications, account: AzureAccount, filesystem: str, context: SensorContext) -> NoticeQueue:
    """Return where notifications come from: the storage queue, or a webhook of ours."""
    from sensors.adapters.event_grid import Container, read_event_grid

    container = Container(account.name, filesystem)
    if told.queue is None:
        from sensors.adapters.webhook_notices import WebhookNotices

        read = partial(read_event_grid, container=container)
        return WebhookNotices(told.webhook or "", read, context.notices, context.clock)
    from sensors.adapters.azure_queue import AzureQueue, AzureQueueNotices

    at = account
    if told.connection is not None:
        at = read_account(AzureOptions(), told.connection, context.connections)
    return AzureQueueNotices(AzureQueue(at, told.queue, context.clock), container)


def _probe(options: AdlsOptions) -> str:
    """Return the folder that whoever runs the sensor may surely list."""
    literal = options.prefix.partition("{%")[0]
    pattern = compile_pattern(options.pattern).prefix if options.pattern else ""
    wanted = pattern if pattern.startswith(literal) and literal == options.prefix else literal
    return wanted.rpartition("/")[0]


KIND = SensorKind(
    name="adls",
    help="files written, overwritten, renamed or deleted in a file system of ADLS Gen2",
    options=AdlsOptions,
    build=build,
    single=True,
    emits=Emits(
        types={
            "object.created": "a file is there that was not there before",
            "object.overwritten": "a file has another etag, size or modification time",
            "object.renamed": "a file has another path (told by a notification); with `emit: folder` also a folder",
            "object.deleted": "a file is gone (with `on: [deleted]`)",
            "object.set.completed": "all files that belong together are there (with `marker` or `manifest`)",
        },
        subject="the path within the file system; of a set its folder or manifest",
        time="the file's modification time; of a set the marker's or manifest's; none for a deletion",
        data="JSON: key, name, size (bytes), etag, modified (RFC 3339), url; content_type and metadata with `head`; of "
        "a deletion the last known; of a set count, size and files; of a folder key, name, url, from and from_url",
        attributes="none",
        sample={
            "id": "events/acme-2026-01-31.parquet@0x8DE60B2F4C1A9E0+1204+1769839200#0",
            "source": "abfss://raw@acct.dfs.core.windows.net",
            "type": "object.created",
            "subject": "events/acme-2026-01-31.parquet",
            "time": "2026-01-31T06:00:00Z",
            "content_type": "application/json",
            "data": {
                "key": "events/acme-2026-01-31.parquet",
                "name": "acme-2026-01-31.parquet",
                "size": 1204,
                "etag": "0x8DE60B2F4C1A9E0",
                "modified": "2026-01-31T06:00:00Z",
                "url": "abfss://raw@acct.dfs.core.windows.net/events/acme-2026-01-31.parquet",
            },
            "match": {"customer": "acme", "day": "2026-01-31"},
        },
    ),
)
