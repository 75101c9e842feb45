"""CloudEvents' HTTP binding, JSON format and webhooks, sentence by sentence: one case per rule, with its section."""

from collections.abc import Mapping

import pytest

from sensors.errors import Refused
from sensors.testing import make_request
from tests.sensors.cloudevents_rules import RULES, Rule
from tests.support.webhooks import make_webhook


@pytest.mark.parametrize("rule", [pytest.param(rule, id=f"{rule.section}: {rule.says}") for rule in RULES])
async def test_the_binding(rule: Rule) -> None:
    """What a sentence of the specification says is what happens."""
    webhook = make_webhook(**rule.options)
    request = make_request(rule.body, rule.headers)
    if rule.refused:
        with pytest.raises(Refused) as refused:
            await webhook.receive(request)
        assert refused.value.status == rule.refused
        return
    events = (await webhook.receive(request)).events
    assert len(events) == len(rule.gives)
    for event, wanted in zip(events, rule.gives, strict=True):
        for name, value in wanted.items():
            found = getattr(event, name) if hasattr(event, name) else event.attributes.get(name)
            assert found == value


_HANDSHAKES = [
    ("HOOK 4.2.1", "a listed origin is named", {"webhook-request-origin": "e.example.com"}, 200, "e.example.com", "60"),
    ("HOOK 4.2.1", "whatever its case", {"webhook-request-origin": "E.example.COM"}, 200, "E.example.COM", "60"),
    ("HOOK 4.1.2", "one that is not listed is not", {"webhook-request-origin": "evil.example.com"}, 403, None, None),
    ("HOOK 4.1.2", "who does not say who asks is not", {}, 400, None, None),
    ("HOOK 4.2.2", "a rate that is asked for is granted", {"webhook-request-rate": "30"}, 200, "e.example.com", "30"),
    ("HOOK 4.2.2", "up to ours", {"webhook-request-rate": "6000"}, 200, "e.example.com", "60"),
    ("HOOK 4.1.4", "what is no rate is not heard", {"webhook-request-rate": "0"}, 200, "e.example.com", "60"),
    (
        "HOOK 4.1.3",
        "a callback is never called",
        {"webhook-request-callback": "https://evil.example.com"},
        200,
        "e.example.com",
        "60",
    ),
]


@pytest.mark.parametrize(
    ("headers", "status", "origin", "rate"),
    [pytest.param(*case[2:], id=f"{case[0]}: {case[1]}") for case in _HANDSHAKES],
)
async def test_the_handshake(headers: dict[str, str], status: int, origin: str | None, rate: str | None) -> None:
    """Consent is two headers; without them there is none, whatever the status."""
    webhook = make_webhook(cloudevents={"origins": ["e.example.com"], "rate": 60})
    if headers and "webhook-request-origin" not in headers:
        headers = {"webhook-request-origin": "e.example.com", **headers}
    request = make_request(b"", headers, method="OPTIONS")
    if status != 200:
        with pytest.raises(Refused) as refused:
            await webhook.receive(request)
        answer: Mapping[str, str] = refused.value.headers
        assert refused.value.status == status
    else:
        batch = await webhook.receive(request)
        assert batch.empty
        assert batch.reply is not None
        assert batch.reply.status == status
        answer = batch.reply.headers
    assert answer["allow"] == "POST"
    assert (answer.get("webhook-allowed-origin"), answer.get("webhook-allowed-rate")) == (origin, rate)


async def test_anybody_may_be_allowed_and_any_rate() -> None:
    """`*` grants every origin, and without a rate of ours the one that is asked for."""
    webhook = make_webhook(cloudevents={"origins": ["*"]})
    for asked, granted in ((None, "*"), ("500", "500")):
        headers = {"webhook-request-origin": "any.example.com", **({"webhook-request-rate": asked} if asked else {})}
        reply = (await webhook.receive(make_request(b"", headers, method="OPTIONS"))).reply
        assert reply is not None
        assert reply.headers["webhook-allowed-origin"] == "any.example.com"
        assert reply.headers["webhook-allowed-rate"] == granted


async def test_without_origins_options_is_no_method() -> None:
    """An endpoint that takes no part in the handshake answers 405, which is no consent."""
    with pytest.raises(Refused) as refused:
        await make_webhook().receive(make_request(b"", {"webhook-request-origin": "e"}, method="OPTIONS"))
    assert (refused.value.status, refused.value.headers) == (405, {"allow": "POST"})
