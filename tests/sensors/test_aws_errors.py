"""What the sentences of AWS errors say: over real HTTP with the real SDK, from real servers where they can be had."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from sensors.adapters import aws
from sensors.adapters.aws import AwsClient, quick_timestamp
from sensors.adapters.aws_errors import Answered, Asked, explain
from sensors.adapters.aws_options import AwsAccess, access_of
from sensors.adapters.s3_source import S3Source
from sensors.clock import SystemClock
from sensors.errors import BackOff, BadPayload, NotConnected
from sensors.kind import SensorContext
from tests.support.aws import LISTER, NOBODY, Aws, free_ports
from tests.support.scripted_s3 import Answer, Request, ScriptedS3, error, found, listing, running_script

KEYS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI"}
CREDENTIALS = {"region": "us-east-1", "credentials": KEYS}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine decides: no AWS variables, no files, no instance metadata."""
    import os

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedS3]:
    async with running_script() as made:
        yield made


def source_at(url: str, options: dict[str, Any] | None = None, bucket: str = "landing") -> S3Source:
    given = {"endpoint_url": url, **(CREDENTIALS if options is None else options)}
    context = SensorContext("s", "my service", SystemClock(), Path())
    access = access_of(AwsAccess.model_validate(given), None, context)
    return S3Source(AwsClient(access, "s3", f"s3://{bucket}"), bucket)


async def refusal(source: S3Source) -> str:
    """Open the source and return the sentence of the NotConnected that comes."""
    with pytest.raises(NotConnected) as caught:
        await source.open()
    await source.close()
    return str(caught.value)


TOLD = [
    (error("NoSuchBucket", 404), "there is no such bucket at http://127.0.0.1"),
    (error("404", 404), "there is no such bucket"),
    (
        error("PermanentRedirect", 301, headers={"x-amz-bucket-region": "eu-north-1"}),
        "the bucket is in region eu-north-1, and us-east-1 was asked; set `region: eu-north-1`",
    ),
    (error("AuthorizationHeaderMalformed", 400, Region="eu-west-3"), "set `region: eu-west-3`"),
    (
        error("PermanentRedirect", 301, Endpoint="landing.s3.example.org"),
        r"this endpoint does not serve the bucket \(landing.s3.example.org does\)",
    ),
    (
        error("AccessDenied", 403, "User x is not authorized"),
        r"list_objects_v2 is denied \(User x is not authorized\); grant s3:ListBucket",
    ),
    (error("ExpiredToken", 400, "The provided token has expired."), "the credentials have expired .*; renew them"),
    (error("InvalidAccessKeyId", 403), "the access key is not known there; correct `access_key_id`"),
    (
        error("SignatureDoesNotMatch", 403, "See the key."),
        "the signature does not match .*; correct `secret_access_key`",
    ),
    (error("InvalidToken", 400), "the session token is not valid; correct `session_token`"),
    (
        error("RequestTimeTooSkewed", 403, RequestTime="20260131T060000Z", ServerTime="2026-01-31T06:17:00Z"),
        "this machine's clock is 17 minutes behind the server's, .*; set the clock",
    ),
    (
        error("RequestTimeTooSkewed", 403, RequestTime="20260131T070000Z", ServerTime="2026-01-31T06:59:00Z"),
        "is 60 s ahead of the server's",
    ),
    (error("WhoKnows", 418, "a teapot"), r"list_objects_v2 failed: WhoKnows \(a teapot\)"),
    (Answer(200, "<html><body>Welcome to nginx!</body>"), "an error of its own .*, or is no endpoint of this service"),
    (Answer(403, "<html>no</html>"), "list_objects_v2 (is denied|failed)"),
]


@pytest.mark.parametrize(("answer", "expected"), TOLD, ids=[f"{n}-{a.status}" for n, (a, _) in enumerate(TOLD)])
async def test_a_refusal_names_its_cause(server: ScriptedS3, answer: Answer, expected: str) -> None:
    """Each way to be refused has a sentence of its own, which names the place and what would help."""
    server.otherwise = lambda _: answer
    source = source_at(server.url)
    with pytest.raises(NotConnected, match=f"^s3://landing: .*{expected}"):
        await source.open()
    server.otherwise = lambda _: listing("k")
    await source.open()  # nothing is left of it
    assert [item.key for item in (await source.page("", None)).objects] == ["k"]
    await source.close()


async def test_a_wrong_clock_by_the_answer_s_date(server: ScriptedS3) -> None:
    """Where the error names no times, the date of the answer tells how far the clock is off."""
    date = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    server.otherwise = lambda _: error("RequestTimeTooSkewed", 403, headers={"Date": date})
    assert "clock is 60 minutes ahead of the server's" in await refusal(source_at(server.url))


@pytest.mark.parametrize("code", ["SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "TooManyRequests"])
async def test_throttling_asks_for_a_growing_wait(server: ScriptedS3, code: str) -> None:
    """Each answer in a row doubles the wait up to a minute, and a success begins anew; the SDK does not retry."""
    source = source_at(server.url)
    await source.open()
    server.otherwise = lambda _: error(code, 503)
    asked = len(server.asked)
    waits = []
    for _ in range(9):
        with pytest.raises(BackOff, match=rf"^s3://landing: the server is asked too often \({code}\)") as caught:
            await source.page("", None)
        waits.append(caught.value.wait)
    assert len(server.asked) == asked + 9
    for n, wait in enumerate(waits):
        assert 0.75 * min(60, 2**n) <= wait <= min(60, 2**n)
    server.say(listing())
    await source.page("", None)
    with pytest.raises(BackOff) as caught:
        await source.page("", None)
    assert caught.value.wait <= 1
    await source.close()


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [
        ("7", 7, 7),
        ("in ten minutes", 500, 600),
        ("0", 1, 1),
        ("99999999", 3600, 3600),
        ("soon", 0.75, 1),
        ("-5", 0.75, 1),
    ],
)
async def test_retry_after_is_honoured(server: ScriptedS3, asked: str, low: float, high: float) -> None:
    """Seconds and dates are understood, and bounded; nonsense counts as nothing."""
    source = source_at(server.url)
    if asked == "in ten minutes":
        asked = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    server.otherwise = lambda _: error("SlowDown", 503, headers={"Retry-After": asked})
    with pytest.raises(BackOff) as caught:
        await source.open()
    assert low <= caught.value.wait <= high


async def test_what_passes_at_once_is_asked_once_more(server: ScriptedS3) -> None:
    """One internal error, or one connection that broke, is nobody's business; two are a sentence."""
    source = source_at(server.url)
    await source.open()
    for bad in (error("InternalError", 500), Answer(200, "<a>" * 50, cut=True)):
        server.say(bad)
        await source.page("", None)
        server.say(bad, bad)
        with pytest.raises(NotConnected, match=r"InternalError|broke"):
            await source.page("", None)
    await source.close()


async def test_a_bucket_of_another_region_is_found_where_the_server_says(server: ScriptedS3) -> None:
    """The SDK signs for the region that the server names, and the sensor works."""

    def answer(request: Request) -> Answer:
        if "/eu-west-1/" in request.headers["authorization"]:
            return listing("k")
        return error("PermanentRedirect", 301, headers={"x-amz-bucket-region": "eu-west-1"})

    server.otherwise = answer
    source = source_at(server.url)
    await source.open()
    assert [item.key for item in (await source.page("", None)).objects] == ["k"]
    await source.close()


# -- no answer ---------------------------------------------------------------------------------------------------------
async def test_an_endpoint_that_is_down(server: ScriptedS3) -> None:
    """A closed port, an unknown name and a server without TLS are told apart."""
    (port,) = free_ports(1)
    assert f"no connection to http://127.0.0.1:{port}" in await refusal(source_at(f"http://127.0.0.1:{port}"))
    assert "the name cannot be resolved" in await refusal(source_at("http://no-such-host.invalid"))
    tls = await refusal(source_at(server.url.replace("http:", "https:")))
    assert "TLS with https://127.0.0.1" in tls
    assert "ca_bundle" in tls


async def test_an_endpoint_that_is_silent(server: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the request and says nothing is given up after the timeout."""
    monkeypatch.setattr(aws, "READ_TIMEOUT", 0.1)
    server.otherwise = lambda _: Answer(silent=True)
    assert f"{server.url} did not answer in time" in await refusal(source_at(server.url))


async def test_a_body_that_breaks_off(server: ScriptedS3) -> None:
    """A range that ends too early is an error and no short answer."""
    source = source_at(server.url)
    await source.open()
    whole = Answer(206, "0123456789", {"Content-Range": "bytes 0-9/10"}, cut=True)
    server.say(whole, whole)
    with pytest.raises(NotConnected, match="broke"):
        await source.read("k", 0, 10)
    await source.close()


# -- credentials -------------------------------------------------------------------------------------------------------
async def test_no_credentials_at_all(server: ScriptedS3) -> None:
    """When the chain finds nothing the sentence says where it looked."""
    told = await refusal(source_at(server.url, {"region": "us-east-1"}))
    assert "no credentials were found in the environment, the profile" in told
    assert "`anonymous: true`" in told


async def test_the_default_chain_and_profiles(
    server: ScriptedS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keys come from the environment, from a profile, or from nowhere when anonymous; a missing profile is named."""
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = AKPROFILE\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENVIRON")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    expected: list[tuple[dict[str, Any], str | None]] = [
        ({}, "AKENVIRON"),
        ({"profile": "mine"}, "AKPROFILE"),
        ({"credentials": {**KEYS, "session_token": "tok"}}, "AKIDEXAMPLE"),
        ({"anonymous": True}, None),
    ]
    for options, key in expected:
        source = source_at(server.url, options)
        await source.open()
        await source.close()
        signed = server.asked[-1].headers.get("authorization")
        assert signed is None if key is None else f"Credential={key}/" in (signed or "")
    assert server.asked[-2].headers["x-amz-security-token"] == "tok"
    assert server.asked[0].headers["x-amz-security-token"] == "session"
    told = await refusal(source_at(server.url, {"profile": "other"}))
    assert "other" in told
    assert "correct `profile`" in told


STS = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>AKROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>roletoken</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn>
<AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"""


async def test_a_role_is_taken_on(server: ScriptedS3) -> None:
    """The role is asked for with external id and session name, and S3 is asked with what came; a refusal names it."""
    role = {"role_arn": "arn:aws:iam::123456789012:role/r", "external_id": "ext-1", "endpoint_url": server.url}
    options = {**CREDENTIALS, "assume_role": role}
    server.say(Answer(200, STS))
    source = source_at(server.url, options)
    await source.open()
    await source.page("", None)
    await source.close()
    sts, first, second = server.asked
    assert "ExternalId=ext-1" in sts.body
    assert "RoleSessionName=tidegate-my-service" in sts.body
    assert "Credential=AKIDEXAMPLE/" in sts.headers["authorization"]
    for request in (first, second):
        assert "Credential=AKROLE/" in request.headers["authorization"]
        assert request.headers["x-amz-security-token"] == "roletoken"
    denied = "<Error><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error>"
    server.say(Answer(403, f"<ErrorResponse>{denied}</ErrorResponse>"))
    told = await refusal(source_at(server.url, options))
    assert "the role cannot be taken on: AccessDenied" in told
    assert "trust policy" in told


def test_the_clock_as_the_token_service_tells_it() -> None:
    """SQS and STS tell a wrong clock as a signature that has expired."""
    from botocore.exceptions import ClientError

    text = "Signature expired: 20260131T060000Z is now earlier than 20260131T061500Z (20260131T063000Z - 15 min.)"
    answer = {"Error": {"Code": "SignatureDoesNotMatch", "Message": text}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    told = explain(ClientError(answer, "AssumeRole"), Asked("sqs://q", "receive_message", "http://x", "r"))
    assert "this machine's clock is 30 minutes behind the server's" in str(told.error)


# -- one object --------------------------------------------------------------------------------------------------------
async def test_a_head_without_text_is_explained_by_the_bucket(server: ScriptedS3) -> None:
    """A refused HEAD has no text; the bucket is asked, which has one."""
    source = source_at(server.url)
    await source.open()
    server.say(Answer(400), error("ExpiredToken", 400))
    with pytest.raises(NotConnected, match="the credentials have expired"):
        await source.head("k")
    server.say(Answer(403), listing())
    with pytest.raises(Answered, match=r"head_object is denied.*grant s3:GetObject"):
        await source.head("k")
    await source.close()


async def test_one_object_that_is_denied_does_not_stop_the_others(server: ScriptedS3) -> None:
    """Once objects could be looked at, one that cannot concerns itself alone, as does one with a key of its own."""
    source = source_at(server.url)
    await source.open()
    server.say(found(), Answer(403), listing())
    assert await source.head("good") is not None
    with pytest.raises(BadPayload, match=r"^s3://landing/odd: head_object is denied") as caught:
        await source.head("odd")
    assert caught.value.position == "odd"
    server.say(error("AccessDenied", 403, "no identity-based policy allows kms:Decrypt"), listing())
    with pytest.raises(BadPayload, match="kms:Decrypt"):
        await source.read("secret", 0, 10)
    server.say(error("InvalidObjectState", 403, "The operation is not valid for the object's storage class"), listing())
    with pytest.raises(BadPayload, match="storage class"):
        await source.read("glacier", 0, 10)
    await source.close()


async def test_a_server_that_knows_no_ranges(server: ScriptedS3) -> None:
    """A whole body in place of a range is taken where it begins at the same byte, and else refused."""
    source = source_at(server.url)
    await source.open()
    server.otherwise = lambda _: Answer(200, "0123456789")
    assert await source.read("k", 0, 4) == b"0123"
    assert await source.read("k", -20, 20) == b"0123456789"
    for start in (2, -4):
        with pytest.raises(BadPayload, match="the server knows no ranges"):
            await source.read("k", start, 4)
    await source.close()


async def test_conditions_that_a_server_does_not_know(server: ScriptedS3) -> None:
    """A delete whose condition is not implemented is sent without, since the etag was checked before."""
    source = source_at(server.url)
    await source.open()
    server.say(found(), error("NotImplemented", 501), listing(), Answer(204))
    await source.delete("k", "e")
    conditional, _, plain = server.asked[-3:]
    assert (conditional.method, conditional.headers["if-match"]) == ("DELETE", '"e"')
    assert plain.method == "DELETE"
    assert "if-match" not in plain.headers
    server.say(found(), error("PreconditionFailed", 412))
    await source.delete("k", "e")  # somebody was quicker: theirs stays
    await source.close()


# -- hostile answers ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (listing("a", inner="<IsTruncated>true</IsTruncated>"), "has more to list and does not say where"),
        (listing("a", inner="<Contents><Size>1</Size></Contents>"), "lists an object without its key, size or time"),
        (listing(inner="<Contents><Key>k</Key><Size>much</Size></Contents>"), "failed|cannot be understood|without"),
        (listing(inner="<Contents><Key>k</Key><LastModified>x</LastModified></Contents>"), "failed|without"),
        (Answer(200, '<!DOCTYPE a [<!ENTITY b "b">]><a>&b;'), "no endpoint of this service"),
    ],
)
async def test_a_listing_that_makes_no_sense_is_no_listing(server: ScriptedS3, answer: Answer, expected: str) -> None:
    """A page with a hole in it is an error, never a page with less."""
    source = source_at(server.url)
    await source.open()
    server.otherwise = lambda _: answer
    with pytest.raises(NotConnected, match=expected):
        await source.page("", None)
    await source.close()


async def test_a_listing_that_goes_in_circles_ends(server: ScriptedS3) -> None:
    """A server that hands out the token it was given would be listed for ever."""
    source = source_at(server.url)
    await source.open()
    server.otherwise = lambda _: listing("a", more="same")
    first = await source.page("", None)
    with pytest.raises(NotConnected, match="goes on where it was"):
        await source.page("", first.next)
    await source.close()


async def test_texts_of_servers_are_made_harmless(server: ScriptedS3) -> None:
    """Line ends and lengths do not reach a log, nor does what was signed."""
    server.otherwise = lambda _: error(
        "SignatureDoesNotMatch", 403, "bad\nline\u2028end " + "x" * 5000, StringToSign="AWS4-HMAC-SHA256 private"
    )
    told = await refusal(source_at(server.url))
    assert told.isprintable()
    assert len(told) < 500
    assert "private" not in told
    assert KEYS["secret_access_key"] not in told


# -- real servers ------------------------------------------------------------------------------------------------------
@pytest.mark.integration
async def test_a_bucket_that_is_not_there(s3_server: Aws) -> None:
    """Both real servers make the sentence of a wrong bucket."""
    options = {key: value for key, value in s3_server.options.items() if key != "endpoint_url"}
    told = await refusal(source_at(s3_server.endpoint, options, bucket="no-such-bucket"))
    assert f"s3://no-such-bucket: there is no such bucket at {s3_server.endpoint}" in told


@pytest.mark.integration
async def test_keys_that_a_real_server_refuses(seaweedfs: Aws) -> None:
    """An unknown key, a wrong secret and a key without rights are told apart by a real server."""
    with seaweedfs.bucket() as bucket:
        bucket.put("k")

        def source(key: str, secret: str = "test") -> S3Source:
            options = {"region": "us-east-1", "credentials": {"access_key_id": key, "secret_access_key": secret}}
            return source_at(seaweedfs.endpoint, options, bucket=bucket.name)

        assert "the access key is not known there" in await refusal(source("AKUNKNOWN"))
        assert "the signature does not match" in await refusal(source("test", "wrong"))
        assert "list_objects_v2 is denied" in await refusal(source(NOBODY))
        lister = source(LISTER)
        await lister.open()
        assert [item.key for item in (await lister.page("", None)).objects] == ["k"]
        with pytest.raises(NotConnected, match="head_object is denied"):
            await lister.head("k")
        await lister.close()


@pytest.mark.integration
async def test_a_role_of_a_real_token_service(ministack: Aws) -> None:
    """The whole way through a token service ends at the bucket."""
    role = {"role_arn": "arn:aws:iam::000000000000:role/reader", "endpoint_url": ministack.endpoint}
    with ministack.bucket() as bucket:
        bucket.put("k")
        source = source_at(ministack.endpoint, {**CREDENTIALS, "assume_role": role}, bucket=bucket.name)
        await source.open()
        assert [item.key for item in (await source.page("", None)).objects] == ["k"]
        await source.close()


def test_quick_timestamps_are_those_of_the_sdk() -> None:
    """Whatever form a time has, the quick parser says what the SDK's says."""
    from botocore.utils import parse_timestamp

    for text in (
        "2026-01-31T06:00:00.000Z",
        "2026-01-31T06:00:00Z",
        "2026-01-31T06:00:00.123456Z",
        "Sat, 31 Jan 2026 06:00:00 GMT",
        "1769839200",
        "2026-01-31T06:00:00+02:00",
    ):
        assert quick_timestamp(text) == parse_timestamp(text)
    with pytest.raises(ValueError, match="Invalid timestamp"):
        quick_timestamp("2026-13-41T06:00:00Z")
