"""The options of `kind: s3`, and how a sensor's own options and those of its connection become one access."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from config.typewalk import secret_paths
from sensors.adapters.aws_options import AwsAccess, access_of
from sensors.clock import SystemClock
from sensors.kind import SensorContext
from sensors.kinds.s3 import KIND, S3Options
from sensors.testing import check_kind

KEYS = {"access_key_id": "AK", "secret_access_key": "secret"}
LEAST = {"bucket": "landing", "start": "now"}


def context(**connections: Any) -> SensorContext:
    return SensorContext("orders", "orders-gate", SystemClock(), Path("/etc/tidegate"), connections)


def test_the_kind_keeps_the_contract() -> None:
    """The kind declares itself, refuses unknown options and builds a sensor without connecting."""
    check_kind(KIND, LEAST, context())
    check_kind(KIND, {**LEAST, "region": "eu-west-1", "notifications": {"sqs": "landing-events"}}, context())


def test_the_secrets_are_known_as_secrets() -> None:
    """What must not be written out is of a secret type, so that the configuration finds it."""
    data = {**LEAST, "credentials": {**KEYS, "session_token": "t"}}
    assert set(secret_paths(S3Options, data)) == {
        ("credentials", "secret_access_key"),
        ("credentials", "session_token"),
    }
    assert "secret'" not in repr(S3Options.model_validate(data))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"bucket": "s3://landing/in"}, "must be the bucket's name alone, such as landing"),
        ({"bucket": "ab"}, "must be 3 to 255 letters"),
        ({"bucket": "two words"}, "must be 3 to 255 letters"),
        ({"endpoint_url": "minio.lan:9000"}, "must be a URL such as https://minio.lan:9000"),
        ({"endpoint_url": "http://user:pw@minio.lan"}, "must not hold a password"),
        ({"profile": "p", "credentials": KEYS}, "`credentials` and `profile` exclude each other"),
        ({"anonymous": True, "profile": "p"}, "`profile` and `anonymous` exclude each other"),
        ({"anonymous": True, "requester_pays": True}, "who pays must say who they are"),
        ({"anonymous": True, "notifications": {"sqs": "q"}}, "a queue is not read unsigned"),
        ({"anonymous": True, "assume_role": {"role_arn": "arn:aws:iam::1:role/r"}}, "only somebody can take on a role"),
        ({"assume_role": {"role_arn": "reader"}}, "role_arn"),
        ({"assume_role": {"role_arn": "arn:aws:iam::1:role/r", "duration": "1m"}}, "duration"),
        ({"versions": True, "shards": 4}, "`shards`: a listing of versions cannot be split"),
        ({"bucket": "fast--use1-az4--x-s3", "shards": 4}, "the listing of a directory bucket cannot be split"),
        ({"bucket": "fast--use1-az4--x-s3", "versions": True}, "a directory bucket keeps none"),
        ({"bucket": "a.b", "addressing": "virtual"}, "no certificate fits a bucket with dots"),
        ({"shards": 0}, "shards"),
        ({"notifications": {"sqs": ""}}, "sqs"),
        ({"notifications": {}}, "sqs"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(options: dict[str, Any], expected: str) -> None:
    """Wrong options are found at load, each with what would be right."""
    with pytest.raises(ValidationError) as caught:
        S3Options.model_validate({**LEAST, **options})
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"bucket": "arn:aws:s3:eu-west-1:123456789012:accesspoint/reader"},
        {"bucket": "a.b", "addressing": "path"},
        {"endpoint_url": "http://127.0.0.1:9000", "addressing": "virtual"},
        {"endpoint_url": "http://[::1]:9000"},
        {"bucket": "fast--use1-az4--x-s3"},
    ],
)
def test_what_is_unusual_and_right(options: dict[str, Any]) -> None:
    """Access points, local servers and directory buckets are taken as they are."""
    check_kind(KIND, {**LEAST, **options}, context())


def test_a_connection_completes_what_the_sensor_says() -> None:
    """The sensor's own options go before those of the connection; an identity replaces the other as a whole."""
    shared = {"kind": "aws", "region": "eu-west-1", "endpoint_url": "http://minio:9000", "credentials": KEYS}
    found = access_of(AwsAccess(region="us-east-2"), "lake", context(lake=shared))
    assert (found.region, found.endpoint_url) == ("us-east-2", "http://minio:9000")
    assert found.credentials is not None
    assert found.credentials.secret_access_key.get_secret_value() == "secret"
    own = access_of(AwsAccess(profile="p"), "lake", context(lake=shared))
    assert (own.profile, own.credentials, own.region) == ("p", None, "eu-west-1")


def test_paths_and_names_are_completed() -> None:
    """A bundle of certificates lies beside the configuration, and a session bears the service's name."""
    role = {"role_arn": "arn:aws:iam::1:role/r"}
    access = access_of(AwsAccess.model_validate({"ca_bundle": "ca.pem", "assume_role": role}), None, context())
    assert access.ca_bundle == "/etc/tidegate/ca.pem"
    assert access.assume_role is not None
    assert access.assume_role.session_name == "tidegate-orders-gate"


@pytest.mark.parametrize(
    ("connections", "expected"),
    [
        ({}, r"there is no connection 'lake'; add it to `connections` \(there: none\)"),
        ({"abs": {"kind": "azure"}}, r"there is no connection 'lake'; .*there: abs"),
        ({"lake": {"kind": "azure"}}, "connection 'lake' is of kind 'azure'; name one of kind aws"),
        ({"lake": {"kind": "aws", "regoin": "x"}}, "connection 'lake': regoin: Extra inputs are not permitted"),
        ({"lake": {"kind": "aws", "profile": "p", "anonymous": True}}, "connection 'lake': .*exclude each other"),
        ({"lake": {"kind": "aws", "credentials": {"access_key_id": "a"}}}, "credentials.secret_access_key"),
    ],
)
def test_a_connection_that_does_not_fit(connections: dict[str, Any], expected: str) -> None:
    """A missing, a foreign and a broken connection are told apart when the sensor is built."""
    with pytest.raises(ValueError, match=expected):
        KIND.build(S3Options.model_validate({**LEAST, "connection": "lake"}), context(**connections))


def test_a_connection_without_identity_cannot_read_a_queue() -> None:
    """What excludes each other in one place excludes each other in two."""
    options = S3Options.model_validate({**LEAST, "connection": "lake", "notifications": {"sqs": "q"}})
    with pytest.raises(ValueError, match="a queue is not read unsigned"):
        KIND.build(options, context(lake={"kind": "aws", "anonymous": True}))
