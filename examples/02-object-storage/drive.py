"""Drives example 02: a local server for S3 and SQS, the service, and files of which one has no notification.

Prints what was dropped and what came of it; exit code 0 when everything is as promised, otherwise 1 and a sentence.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
import polars as pl

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from examples.demo import Broken, Service  # noqa: E402 - the example is a folder, not a package
from examples.demo_report import Report  # noqa: E402

KEYS = {"S3_KEY": "test", "S3_SECRET": "test"}


class SalesService(Service):
    """The service with this example's configuration."""

    def prepare(self) -> None:
        """Copy the example, with a free port."""
        shutil.copytree(Path(__file__).parent, self.folder / "example")
        (self.folder / "config").mkdir()
        (self.folder / "config" / "demo.yaml").write_text(f"service: {{listen: '127.0.0.1:{self.port}'}}\n")

    def command(self) -> list[str]:
        """Return what starts it."""
        files = ["example/tidegate.yaml", "--overlay", "config/demo.yaml"]
        return [sys.executable, "-m", "tidegate", "serve", *files]


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Start a server that speaks S3 and SQS; yield its endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3,sqs", "LOG_LEVEL": "WARNING"}
    program = Path(sys.executable).with_name("ministack")
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([str(program)], env={**os.environ, **settings}, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Broken("the local S3 server does not start; `make setup` installs it") from error
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def client(name: str, endpoint: str) -> Any:
    """Return a client of the local server."""
    return botocore.session.get_session().create_client(
        name, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )


def parquet(rows: int, price: float, **more: Any) -> bytes:
    """Make the sales of one shop and day."""
    frame = pl.DataFrame(
        {
            "sold_at": [f"2026-03-01T{n % 12 + 8:02}:15:00Z" for n in range(rows)],
            "sku": [f"SKU-{n % 7}" for n in range(rows)],
            "quantity": [n % 3 + 1 for n in range(rows)],
            "price": [price] * rows,
            **{name: [value] * rows for name, value in more.items()},
        }
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def drive(service: SalesService, report: Report, endpoint: str) -> None:
    """Let files come, with and without a notification, twice, and wrong."""
    s3, sqs = client("s3", endpoint), client("sqs", endpoint)
    s3.create_bucket(Bucket="sales")
    queue = sqs.create_queue(QueueName="sales")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    told = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    os.environ.update(S3_ENDPOINT=endpoint, QUEUE_URL=queue, **KEYS)

    def put(key: str, body: bytes) -> None:
        s3.put_object(Bucket="sales", Key=key, Body=body)

    report.title("What happens")
    put("day=2026-03-01/oslo.parquet", parquet(120, 9.5))
    report.did("oslo.parquet dropped while the service is down and nothing notifies")
    s3.put_bucket_notification_configuration(Bucket="sales", NotificationConfiguration=told)
    service.prepare()
    report.did(f"service started on {service.url}, ready", f"{service.start():.1f} s")
    put("day=2026-03-01/bergen.parquet", parquet(80, 12.0))
    begun = time.monotonic()
    service.until("bergen's file is an event", lambda: "day=2026-03-01/bergen.parquet" in subjects(service))
    report.did("bergen.parquet dropped, with a notification", f"an event {time.monotonic() - begun:.2f} s later")
    s3.put_bucket_notification_configuration(Bucket="sales", NotificationConfiguration={})
    put("day=2026-03-02/oslo.parquet", parquet(60, 9.5))
    begun = time.monotonic()
    service.until("the listing has found it", lambda: "day=2026-03-02/oslo.parquet" in subjects(service))
    report.did("another one whose notification is lost", f"found by the listing {time.monotonic() - begun:.1f} s later")
    s3.put_bucket_notification_configuration(Bucket="sales", NotificationConfiguration=told)
    put("day=2026-03-01/oslo.parquet", parquet(121, 9.5))
    report.did("oslo.parquet again, with a correction: another version, another event")
    put("day=2026-03-02/bergen.parquet", parquet(10, 1.0).replace(b"price", b"prize"))
    report.did("bergen.parquet of the second day, whose column `price` has become `prize`")
    service.until("the wrong file is a dead letter", lambda: bool(service.read("dead-letters")["items"]))
    service.until("all four runs have ended", lambda: ended(service) == ["succeeded"] * 4)


def subjects(service: SalesService) -> list[str]:
    """Return the keys of all events."""
    return [item["subject"] for item in service.read("events?limit=100")["items"]]


def ended(service: SalesService) -> list[str]:
    """Return the states of all runs that have ended."""
    states = [run["state"] for run in service.read("runs?limit=100")["items"]]
    return [state for state in states if state in ("succeeded", "failed", "cancelled")]


def tell(service: SalesService, report: Report) -> None:
    """Print what the service knows about it, and hold it against what must be."""
    events = [service.read(f"events/{item['uid']}") for item in service.read("events?limit=100")["items"]]
    events.sort(key=lambda event: str(event["received_at"]))
    _expect(len(events) == 4, f"{len(events)} events came of four good files")
    report.events(events)
    runs = [service.read(f"runs/{item['uid']}") for item in service.read("runs?limit=100")["items"]]
    runs.sort(key=lambda run: str(run["created_at"]))
    report.runs(runs)
    lineage = service.read(f"lineage?event={runs[-1]['events'][0]['uid']}&direction=down")
    _expect("dataset" in {node["kind"] for node in lineage["nodes"]}, "the lineage shows no table")
    report.lineage(runs[-1], lineage)
    letter = service.read("dead-letters")["items"][0]
    _expect(letter["reason"] == "refused", f"the wrong file became a dead letter by {letter['reason']}")
    report.did("the wrong file was refused, and no run saw it", letter["detail"])
    import duckdb

    with duckdb.connect(str(service.folder / "example" / ".tidegate" / "sales.duckdb"), read_only=True) as table:
        found = table.execute("select day, shops::int, sold::double from by_day order by day").fetchall()
    _expect([(day, shops) for day, shops, _ in found] == [("2026-03-01", 2), ("2026-03-02", 1)], f"it holds {found}")
    for day, shops, sold in found:
        report.did(f"{day}: {shops} shops", f"{sold:,.2f}")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def main() -> int:
    """Run the demonstration."""
    report = Report()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tidegate-sales-") as name:
        folder = Path(name)
        service = SalesService(folder)
        try:
            with server(folder) as endpoint:
                drive(service, report, endpoint)
                tell(service, report)
                stopped = service.stop()
        except Exception as error:  # noqa: BLE001 - whatever it is, it was promised otherwise
            said = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}\n{service.tail()}"
            report.failed(said)
            return 1
        finally:
            service.kill()
    report.done(f"stopped softly in {stopped:.1f} s; everything as promised, {time.monotonic() - begun:.1f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
