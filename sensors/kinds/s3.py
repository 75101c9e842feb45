"""Objects in S3, and in whatever speaks its protocol: created, overwritten and deleted, however they came.

In flow pages of the bucket's listing at an interval, which are the truth, and (with `notifications`) the messages of a
queue or of a webhook, which say where to look now; out flow events with the memory of each object. Both ways lead to
the same event with the same id. With `versions` every version of an object is an event of its own.

Order: none is promised between objects; the events of one object come in the order in which its versions were seen.
"""

import re
from functools import partial
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sensors.adapters.aws import AwsClient
from sensors.adapters.aws_options import AwsAccess, access_of
from sensors.adapters.object_build import Ways, make_object_sensor
from sensors.adapters.objects import NoticeQueue
from sensors.adapters.s3_source import S3Source
from sensors.adapters.watched_options import WatchedOptions
from sensors.kind import Emits, SensorContext, SensorKind
from sensors.patterns import compile_pattern
from sensors.sensor import Sensor

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]|arn:[a-z0-9-]+:s3[a-z-]*:[^\s]+", re.ASCII)


class S3Notifications(BaseModel):
    """Where the bucket's notifications arrive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sqs: str | None = Field(
        None,
        min_length=1,
        description="the queue (URL, ARN or name), fed by S3 itself, through SNS or through EventBridge",
    )
    webhook: str | None = Field(
        None, min_length=1, description="a webhook sensor to which SNS, EventBridge or the server itself posts them"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.sqs is None) == (self.webhook is None):
            raise ValueError("write `sqs` or `webhook`: one of them")
        return self


class S3Options(WatchedOptions, AwsAccess):
    """Options of `kind: s3`."""

    kind: Literal["s3"] = "s3"
    bucket: str = Field(description="the bucket's name, or the ARN of an access point")
    connection: str | None = Field(None, description="a connection of kind aws; what stands here goes before it")
    requester_pays: bool = Field(False, description="agree to pay for the requests on somebody else's bucket")
    versions: bool = Field(False, description="every version is an event of its own; lists the versions of the bucket")
    shards: int = Field(1, ge=1, le=64, description="list the folders of a big bucket in up to so many parts at once")
    notifications: S3Notifications | None = Field(
        None, description="a queue (sqs) or a webhook that tells at once where to look"
    )

    @field_validator("bucket")
    @classmethod
    def _is_bucket(cls, value: str) -> str:
        if "://" in value or "/" in value.partition(":accesspoint")[0]:
            raise ValueError("must be the bucket's name alone, such as landing; the rest of a URL goes into `prefix`")
        if not _BUCKET.fullmatch(value):
            raise ValueError("must be 3 to 255 letters, digits, dots and dashes, such as landing")
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        directory = self.bucket.endswith("--x-s3")
        if self.versions and directory:
            raise ValueError("`versions`: a directory bucket keeps none; leave it out")
        if self.shards > 1 and (self.versions or directory):
            what = "a listing of versions" if self.versions else "the listing of a directory bucket"
            raise ValueError(f"`shards`: {what} cannot be split; leave it out")
        refused = {
            "head": self.head,
            "reupload": self.reupload == "ignore",
            "inspect": self.inspect is not False,
            "expect": self.expect is not None,
            "after": self.after is not None,
        }
        for name, given in refused.items():
            if self.versions and given:
                raise ValueError(
                    f"`versions` and `{name}` exclude each other: the one tells of every version, the other looks at "
                    "the newest one"
                )
        self.check_identity(self)
        tls = self.endpoint_url is None or self.endpoint_url.startswith("https:")
        if self.addressing == "virtual" and "." in self.bucket and tls and not self.bucket.startswith("arn:"):
            raise ValueError("`addressing`: no certificate fits a bucket with dots in its name; write `path`")
        return self

    def check_identity(self, access: AwsAccess) -> None:
        """Raise ValueError when what is asked for needs to know who asks, and nobody does."""
        if access.anonymous and self.requester_pays:
            raise ValueError("`anonymous` and `requester_pays` exclude each other: who pays must say who they are")
        if access.anonymous and self.notifications is not None and self.notifications.sqs is not None:
            raise ValueError("`anonymous` and `notifications` exclude each other: a queue is not read unsigned")


def build(options: S3Options, context: SensorContext) -> Sensor:
    """Make the sensor; nothing is opened. Raises ValueError with a sentence."""
    access = access_of(options, options.connection, context)
    options.check_identity(access)
    source = S3Source(
        AwsClient(access, "s3", f"s3://{options.bucket}"),
        options.bucket,
        probe=_probe(options),
        versions=options.versions,
        requester_pays=options.requester_pays,
        shards=options.shards,
    )
    queue: NoticeQueue | None = None
    told = options.notifications
    if told is not None and told.sqs is not None:
        from sensors.adapters.sqs import SqsNotices, sqs_queue

        queue = SqsNotices(sqs_queue(access, told.sqs, context.clock), options.bucket)
    elif told is not None and told.webhook is not None:
        from sensors.adapters.s3_notices import read_s3
        from sensors.adapters.webhook_notices import WebhookNotices

        queue = WebhookNotices(told.webhook, partial(read_s3, bucket=options.bucket), context.notices, context.clock)
    ways = Ways(versions=options.versions, parallel=options.shards)
    return make_object_sensor(options, source, queue, context, ways)


def _probe(options: S3Options) -> str:
    """Return the prefix that whoever runs the sensor may surely list."""
    literal = options.prefix.partition("{%")[0]
    pattern = compile_pattern(options.pattern).prefix if options.pattern else ""
    return pattern if pattern.startswith(literal) and literal == options.prefix else literal


KIND = SensorKind(
    name="s3",
    help="objects created, overwritten or deleted in a bucket of S3 or of anything that speaks its protocol",
    options=S3Options,
    build=build,
    single=True,
    emits=Emits(
        types={
            "object.created": "an object is there that was not there before",
            "object.overwritten": "an object has another etag, size or modification time than before",
            "object.deleted": "an object is gone (with `on: [deleted]`)",
            "object.set.completed": "all objects that belong together are there (with `marker` or `manifest`)",
        },
        subject="the object's key; of a set the folder, or the manifest's key",
        time="the object's modification time; of a set the marker's or manifest's; none for a deletion",
        data="JSON: key, name, size (bytes), etag, modified (RFC 3339), url; version with `versions`; content_type, "
        "metadata and tags with `head`; of a deletion the last known; of a set count, size and files",
        attributes="none",
        sample={
            "id": "orders/dt=2026-01-31/part-0.parquet@9b2cf535f27731c974343645a3985328+48211+1769839200#0",
            "source": "s3://landing",
            "type": "object.created",
            "subject": "orders/dt=2026-01-31/part-0.parquet",
            "time": "2026-01-31T06:00:00Z",
            "content_type": "application/json",
            "data": {
                "key": "orders/dt=2026-01-31/part-0.parquet",
                "name": "part-0.parquet",
                "size": 48211,
                "etag": "9b2cf535f27731c974343645a3985328",
                "modified": "2026-01-31T06:00:00Z",
                "url": "s3://landing/orders/dt=2026-01-31/part-0.parquet",
            },
            "match": {"day": "2026-01-31", "name": "part-0"},
        },
    ),
)
