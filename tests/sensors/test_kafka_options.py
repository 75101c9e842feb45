"""What can be wrong with the options of the kafka sensor is said before anything connects."""

from typing import Any

import pytest
from pydantic import ValidationError

from sensors.adapters.kafka_options import KafkaOptions, topics_of

GOOD: dict[str, Any] = {"brokers": ["k-1:9092", "[::1]:9092"], "topics": ["orders"], "start": "now"}
OAUTH = {"token_url": "https://id.example.com/token", "client_id": "a", "client_secret": "b"}
REGISTRY = {"url": "https://registry.example.com"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"topics": [], "pattern": r"orders\..+"},
        {"start": "-7d"},
        {"start": "2026-01-31T00:00:00Z"},
        {"isolation": "read_uncommitted", "instance": "replica-1", "group": "mine"},
        {"tls": True},
        {"tls": {"ca": "ca.pem", "cert": "c.pem", "key": "k.pem", "check_hostname": False}},
        {"sasl": {"mechanism": "SCRAM-SHA-512", "username": "u", "password": "p"}},
        {"sasl": {"mechanism": "OAUTHBEARER", "oauth": OAUTH}},
        {"format": "avro", "schema_registry": {**REGISTRY, "username": "u", "password": "p"}},
        {"schema": "./order.json", "max_record": "64KiB", "session_timeout": "45s"},
    ],
)
def test_what_is_right_is_taken(more: dict[str, Any]) -> None:
    """Each way of saying it is understood."""
    KafkaOptions.model_validate({**GOOD, **more})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"brokers": []}, "at least 1 item"),
        ({"brokers": ["kafka://k"]}, "write host:port"),
        ({"topics": []}, "`topics` or `pattern`"),
        ({"pattern": "o.*"}, "`topics` or `pattern`"),
        ({"topics": ["a", "a"]}, "named twice"),
        ({"topics": ["a b"]}, "is no topic"),
        ({"topics": [], "pattern": "("}, "no regular expression"),
        ({"start": "soon"}, "start"),
        ({"format": "avro"}, "needs `schema_registry"),
        ({"schema_registry": REGISTRY}, "leave it out"),
        ({"schema": "a.json", "format": "text"}, "goes with `format: json`"),
        ({"tls": {"cert": "c.pem"}}, "belong together"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u"}}, "takes `username` and `password`"),
        ({"sasl": {"mechanism": "OAUTHBEARER", "username": "u", "password": "p"}}, "OAUTHBEARER takes"),
        ({"sasl": {"mechanism": "GSSAPI"}}, "SCRAM-SHA-256"),
        ({"max_record": "1GiB"}, "less than or equal"),
        ({"broker": ["k:1"]}, "Extra inputs"),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, Any], words: str) -> None:
    """Each mistake has a sentence of its own."""
    with pytest.raises(ValidationError) as caught:
        KafkaOptions.model_validate({**GOOD, **more})

    assert words in str(caught.value)


def test_start_must_be_said() -> None:
    """Topics have a history, so that where to begin is a decision."""
    with pytest.raises(ValidationError, match="start"):
        KafkaOptions.model_validate({key: value for key, value in GOOD.items() if key != "start"})


def test_secrets_are_not_shown() -> None:
    """Passwords and client secrets are in no text that options turn into."""
    sasl = {"mechanism": "OAUTHBEARER", "oauth": {**OAUTH, "client_secret": "hush-1"}}
    registry = {**REGISTRY, "username": "u", "password": "hush-2"}
    options = KafkaOptions.model_validate({**GOOD, "sasl": sasl, "format": "avro", "schema_registry": registry})

    assert "hush" not in f"{options!r} {options.model_dump()}"


def test_a_pattern_chooses_topics() -> None:
    """It begins at the name's beginning, and never takes the brokers' own topics."""
    options = KafkaOptions.model_validate({**GOOD, "topics": [], "pattern": r".*orders"})

    assert topics_of(options, ["eu.orders", "__orders", "orders.dlq", "bills"]) == ["eu.orders", "orders.dlq"]
    assert topics_of(KafkaOptions.model_validate(GOOD), ["bills", "orders"]) == ["orders"]
