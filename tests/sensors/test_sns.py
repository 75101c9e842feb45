"""Amazon SNS: subscriptions are confirmed for listed topics alone, certificates come from its own hosts alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sensors.errors import Refused
from sensors.kind import SensorContext
from sensors.kinds.webhook import WebhookOptions, build
from sensors.ports import Unavailable
from sensors.sensor import PushSensor, Request
from sensors.testing import VirtualClock
from tests.support.senders import CERTIFICATE_URL, NOW, SUBSCRIBE_URL, TOPIC, certificate, fetcher, sns

_CONFIRM: dict[str, Any] = {
    "Type": "SubscriptionConfirmation",
    "Token": "t0",
    "SubscribeURL": SUBSCRIBE_URL,
}


class _Door:
    """A webhook for SNS, what it asked for, and what was there."""

    def __init__(self, **verify: Any) -> None:
        self.asked: list[str] = []
        self.away: list[str] = []
        self.pages = {CERTIFICATE_URL: certificate(), SUBSCRIBE_URL: b"<ok/>"}
        options = WebhookOptions.model_validate(
            {"path": "/hooks/test", "verify": {"scheme": "sns", "topics": [TOPIC], **verify}}
        )
        fetch = fetcher(self.pages, self.asked, self.away)
        self.sensor: PushSensor = build(options, SensorContext("hook", "svc", VirtualClock(), Path(), fetch=fetch))

    async def refused(self, request: Request) -> int:
        with pytest.raises(Refused) as refused:
            await self.sensor.receive(request)
        return refused.value.status


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_notification_is_unwrapped(version: str) -> None:
    """The message is the data, its id the event's, and its attributes are kept; the certificate is fetched once."""
    door = _Door()
    request = sns(
        b'{"Records": []}',
        NOW,
        version=version,
        Subject="Amazon S3 Notification",
        MessageAttributes={"tenant": {"Type": "String", "Value": "acme"}, "odd": 3},
    )
    event, again = [(await door.sensor.receive(request)).events[0] for _ in range(2)]

    assert (event.id, event.source, event.type) == ("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", TOPIC, "sns.notification")
    assert (event.subject, event.time, event.data) == ("Amazon S3 Notification", NOW * 1_000_000, b'{"Records": []}')
    assert event.content_type == "application/json"
    assert event.attributes["sns.tenant"] == "acme"
    assert event.id == again.id
    assert event.trusted
    assert door.asked == [CERTIFICATE_URL]


async def test_text_stays_text() -> None:
    """A message that is no JSON is text."""
    event = (await _Door().sensor.receive(sns(b"hello", NOW))).events[0]
    assert (event.data, event.content_type) == (b"hello", "text/plain; charset=utf-8")


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_subscription_to_a_listed_topic_is_confirmed(version: str) -> None:
    """The address in the signed message is visited once, and the confirmation is an event that people can see."""
    door = _Door()
    event = (await door.sensor.receive(sns(b"You have chosen", NOW, version=version, **_CONFIRM))).events[0]
    assert event.type == "sns.subscribed"
    assert door.asked == [CERTIFICATE_URL, SUBSCRIBE_URL]


async def test_a_subscription_to_another_topic_is_not() -> None:
    """Whoever makes a topic of their own and subscribes us to it is refused, and nothing is asked for."""
    door = _Door()
    other = "arn:aws:sns:eu-north-1:999999999999:evil"
    assert await door.refused(sns(b"x", NOW, **_CONFIRM, TopicArn=other)) == 401
    assert door.asked == []


async def test_a_forged_subscription_is_not_confirmed() -> None:
    """Nothing is visited for a message under another key, or one that was changed."""
    door = _Door()
    assert await door.refused(sns(b"x", NOW, "two", **_CONFIRM)) == 401
    good = sns(b"x", NOW, **_CONFIRM)
    changed = json.loads(good.body)
    changed["SubscribeURL"] += "&more=1"
    assert await door.refused(replace(good, body=json.dumps(changed).encode())) == 401
    assert SUBSCRIBE_URL not in door.asked


@pytest.mark.parametrize(
    "url",
    [
        CERTIFICATE_URL.replace("https:", "http:"),
        CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com.evil.example"),
        CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com:8443"),
        CERTIFICATE_URL.replace("https://sns", "https://evil@sns"),
        CERTIFICATE_URL.replace("https://sns.", "https://s3."),
        CERTIFICATE_URL.replace("eu-north-1", "us-east-1"),
        CERTIFICATE_URL.replace("/Simple", "/bucket/Simple"),
        CERTIFICATE_URL + "?x=1",
        CERTIFICATE_URL + "#x",
        CERTIFICATE_URL + "\n",
        "https://sns.eu-north-1.amazonaws.com/",
        "https://[::1]/",
        "",
        None,
        7,
    ],
)
async def test_certificates_come_from_the_topics_own_host(url: Any) -> None:
    """An address anywhere else, or in another form, is refused without being asked."""
    door = _Door()
    assert await door.refused(sns(b"x", NOW, SigningCertURL=url)) == 401
    assert door.asked == []


async def test_a_host_that_is_away_is_our_trouble() -> None:
    """Without the certificate, or the confirmation, nothing can be answered: SNS is to try again."""
    door = _Door()
    door.away.append(CERTIFICATE_URL)
    with pytest.raises(Unavailable):
        await door.sensor.receive(sns(b"x", NOW))
    door.away[:] = [SUBSCRIBE_URL]
    with pytest.raises(Unavailable):
        await door.sensor.receive(sns(b"x", NOW, **_CONFIRM))


async def test_strangers_cannot_make_us_fetch_without_end() -> None:
    """Addresses of certificates that are none cost a few questions and then none, and hide no good one."""
    door = _Door()
    assert (await door.sensor.receive(sns(b"x", NOW))).events
    for number in range(50):
        url = CERTIFICATE_URL.replace("0a" * 16, f"{number:032x}")
        try:
            await door.sensor.receive(sns(b"x", NOW, SigningCertURL=url))
        except (Refused, Unavailable):
            continue
        pytest.fail("a forged message passed")
    assert len(door.asked) <= 6
    assert (await door.sensor.receive(sns(b"x", NOW))).events


@pytest.mark.parametrize(
    "changes",
    [
        {"SignatureVersion": "3"},
        {"Signature": "***"},
        {"Signature": ""},
        {"Type": "Other"},
        {"Timestamp": "yesterday"},
    ],
)
async def test_odd_messages_are_401(changes: dict[str, Any]) -> None:
    """Whatever is odd about a message, the answer is 401 and no more."""
    message = {**json.loads(sns(b"x", NOW).body), **changes}
    assert await _Door().refused(replace(sns(b"x", NOW), body=json.dumps(message).encode())) == 401


async def test_a_certificate_that_has_run_out_is_refused() -> None:
    """A certificate counts only while it is valid."""
    door = _Door()
    door.pages[CERTIFICATE_URL] = certificate("one", NOW - 86_400 * 10, 5)
    assert await door.refused(sns(b"x", NOW)) == 401


async def test_header_and_message_must_agree() -> None:
    """What a proxy routes by must be what was signed."""
    request = sns(b"x", NOW)
    headers = {**request.headers, "x-amz-sns-message-type": ["SubscriptionConfirmation"]}
    assert await _Door().refused(replace(request, headers=headers)) == 401
