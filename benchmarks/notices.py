"""From a new object to its durable event: told by a notification (S3 → SQS), and found by a listing at an interval.

The whole service on one core, ministack (S3 and SQS) and the writer on the other. An object's time runs from the call
of PutObject until a look into the store shows the row of its event. The test server looks into its queues only every
now and then, so what a plain client that waits for messages needs is told beside it.
"""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import quantile, service
from benchmarks.listing_rig import StoreEye, until
from tests.support.aws import Bucket, Queue, running_ministack

TOLD, LISTED = 100, 6
EVERY = 1.0
_JITTER = 0.1  # of the interval, as `sensors.polling.Interval` has it
_RANDOM = random.Random(3)
_SLACK = 0.5  # seconds for the scan itself and the commit


def notices(folder: Path, told: int = TOLD, listed: int = LISTED) -> Mapping[str, Any]:
    """Return p50 and p99 in milliseconds by notification, and the longest time in seconds by listing."""
    with running_ministack("s3,sqs") as aws, aws.bucket() as with_queue, aws.bucket() as plain, aws.queue() as queue:
        with_queue.notify(queue)
        bare = _bare_times(with_queue, queue, told // 2)
        common = {
            **{name: value for name, value in aws.options.items() if name != "credentials"},
            "credentials": {"access_key_id": "test", "secret_access_key": "env:BENCH_SECRET"},
            "kind": "s3",
            "start": "now",
        }
        sensors = {
            "told": {**common, "bucket": with_queue.name, "every": "1d", "notifications": {"sqs": queue.url}},
            "listed": {**common, "bucket": plain.name, "every": f"{EVERY:g}s"},
        }
        with service(folder, "notices", {"sensors": sensors}) as ours:
            eye = StoreEye(folder / "notices")
            until(lambda: eye.baseline("told") and eye.baseline("listed"), 30, "the first scans")
            _times(with_queue, eye, "told", 5, 0.1)
            by_notice = _times(with_queue, eye, "told", told, 0.1)
            by_listing = _times(plain, eye, "listed", listed, EVERY)
            eye.close()
            rss = ours.rss_mb()
    longest = max(by_listing)
    if longest > EVERY * (1 + _JITTER) + _SLACK:
        raise RuntimeError(f"by listing an event took {longest:.2f} s although everything is compared every {EVERY} s")
    return {
        "notification_p50_ms": round(1000 * quantile(by_notice, 0.5), 1),
        "notification_p99_ms": round(1000 * quantile(by_notice, 0.99), 1),
        "notification_max_ms": round(1000 * max(by_notice), 1),
        "notification_bare_p50_ms": round(1000 * quantile(bare, 0.5), 1),
        "notifications": told,
        "listing_every_s": EVERY,
        "listing_max_s": round(longest, 2),
        "notices_rss_mb": round(rss, 1),
    }


def _bare_times(bucket: Bucket, queue: Queue, count: int) -> Sequence[float]:
    """Return the seconds from writing an object until a plain client that waits at the queue has its notification."""
    got: list[float] = []
    goal = count + 1  # with the message that tries the queue
    client = bucket.aws.client("sqs")

    def receive() -> None:
        while len(got) < goal:
            answer = client.receive_message(QueueUrl=queue.url, WaitTimeSeconds=5, MaxNumberOfMessages=10)
            arrived = time.monotonic()
            for message in answer.get("Messages", ()):
                client.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])
                got.append(arrived)

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    until(lambda: got, 20, "the message that tries the queue")
    times = []
    for n in range(count):
        started = time.monotonic()
        bucket.put(f"bare/{n:06d}", b"x" * 100)
        until(lambda seen=n + 2: len(got) >= seen, 20, "a notification", 0.0005)  # type: ignore[misc]
        times.append(got[n + 1] - started)
        time.sleep(_RANDOM.uniform(0, 0.1))
    thread.join(20)
    return times


def _times(bucket: Bucket, eye: StoreEye, sensor: str, count: int, pause: float) -> Sequence[float]:
    """Write objects, each up to `pause` seconds after the event before; return the seconds until each event."""
    times = []
    known = eye.events(sensor)
    for n in range(count):
        started = time.monotonic()
        bucket.put(f"{sensor}/{known + n:06d}", b"x" * 100)
        until(lambda goal=known + n + 1: eye.events(sensor) >= goal, 30, "an event", 0.0005)  # type: ignore[misc]
        times.append(time.monotonic() - started)
        time.sleep(_RANDOM.uniform(0, pause))  # never in step with what the server does at its own interval
    return times
