"""The ways on which notifications of a bucket get into a queue: straight, through a topic, through EventBridge.

In flow a bucket and a queue of one test, out flows a set-up that lasts as long as its context.
"""

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping

from tests.support.aws import Bucket, Queue

Route = Callable[[Bucket, Queue], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def straight(bucket: Bucket, queue: Queue) -> Iterator[None]:
    """Have S3 deliver to the queue."""
    bucket.notify(queue)
    yield


@contextlib.contextmanager
def topic(queue: Queue, *, raw: bool) -> Iterator[str]:
    """Make a topic that delivers to the queue."""
    sns = queue.aws.sns
    arn = sns.create_topic(Name=f"t-{uuid.uuid4().hex[:12]}")["TopicArn"]
    settings = {"RawMessageDelivery": "true"} if raw else {}
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue.arn, Attributes=settings)
    try:
        yield arn
    finally:
        sns.delete_topic(TopicArn=arn)


@contextlib.contextmanager
def by_topic(bucket: Bucket, queue: Queue, *, raw: bool) -> Iterator[None]:
    """Have S3 deliver to a topic, and that to the queue; `raw` without SNS' envelope."""
    with topic(queue, raw=raw) as arn:
        to = {"TopicArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
        bucket.aws.s3.put_bucket_notification_configuration(
            Bucket=bucket.name, NotificationConfiguration={"TopicConfigurations": [to]}
        )
        yield


@contextlib.contextmanager
def bridge(bucket: Bucket, target: str) -> Iterator[None]:
    """Have EventBridge deliver the bucket's events to a target."""
    events, name = bucket.aws.events, f"r-{uuid.uuid4().hex[:12]}"
    bucket.aws.s3.put_bucket_notification_configuration(
        Bucket=bucket.name, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket.name]}}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern), State="ENABLED")
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": target}])
    try:
        yield
    finally:
        events.remove_targets(Rule=name, Ids=["1"])
        events.delete_rule(Name=name)


@contextlib.contextmanager
def by_bridge(bucket: Bucket, queue: Queue) -> Iterator[None]:
    """Have EventBridge deliver to the queue."""
    with bridge(bucket, queue.arn):
        yield


@contextlib.contextmanager
def by_bridge_and_topic(bucket: Bucket, queue: Queue) -> Iterator[None]:
    """Have EventBridge deliver to a topic, and that to the queue."""
    with topic(queue, raw=False) as arn, bridge(bucket, arn):
        yield


ROUTES: Mapping[str, Route] = {
    "straight": straight,
    "sns": lambda bucket, queue: by_topic(bucket, queue, raw=False),
    "sns_raw": lambda bucket, queue: by_topic(bucket, queue, raw=True),
    "eventbridge": by_bridge,
    "eventbridge_sns": by_bridge_and_topic,
}
