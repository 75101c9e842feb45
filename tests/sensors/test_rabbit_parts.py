"""The parts of the RabbitMQ sensor that need no broker: options, tags, frames."""

import asyncio
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame as frames
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from pydantic import ValidationError

from sensors.adapters.rabbit_frames import ORIGINAL, UNREADABLE, MendingReader, mended_header, mended_method
from sensors.adapters.rabbit_options import RabbitOptions, RabbitPlace, place_of
from sensors.adapters.rabbit_tags import Outstanding
from sensors.kind import SensorContext
from sensors.testing import VirtualClock
from tests.support.raw_amqp import entry, properties


def place(url: str, connections: Any = None, **options: Any) -> RabbitPlace:
    given = {"url": url, "queue": "jobs", **options}
    model = RabbitOptions.model_validate({name: value for name, value in given.items() if value is not None})
    return place_of(model, SensorContext("q", "svc", VirtualClock(), Path("/etc/gate"), connections or {}))


@pytest.mark.parametrize(
    ("url", "more", "expected"),
    [
        ("amqp://u:p@h", {}, ("h:5672", "/", "amqp://u:p@h:5672/%2F?heartbeat=30&name=tidegate-svc-q")),
        ("amqps://h/prod", {}, ("h:5671", "prod", "amqps://h:5671/prod?heartbeat=30&name=tidegate-svc-q")),
        (
            "amqp://h:9/%2Fa",
            {"heartbeat": "5s"},
            ("h:9", "/a", "amqp://h:9/%2Fa?heartbeat=5&name=tidegate-svc-q"),
        ),
        ("amqp://h/x", {"vhost": "y z"}, ("h:5672", "y z", "amqp://h:5672/y%20z?heartbeat=30&name=tidegate-svc-q")),
        ("amqp://[::1]:7/", {}, ("[::1]:7", "/", "amqp://[::1]:7/%2F?heartbeat=30&name=tidegate-svc-q")),
    ],
)
def test_what_a_url_means(url: str, more: dict[str, Any], expected: tuple[str, str, str]) -> None:
    """Port and virtual host have the defaults that AMQP gives them, and the password is in no representation."""
    found = place(url, **more)
    assert (found.host, found.vhost, found.url) == expected
    assert "u:p@" not in repr(found)
    assert "u:p@" not in found.source


@pytest.mark.parametrize(
    ("url", "more", "word"),
    [
        ("http://h/", {}, "no URL of a broker"),
        ("amqp:///x", {}, "no URL of a broker"),
        ("amqp://h/a/b", {}, "no URL of a broker"),
        ("amqp://h:x/", {}, "no URL of a broker"),
        ("amqp://h/?heartbeat=1", {}, "options of their own"),
        ("amqp://h/", {"tls": {"ca": "x"}}, "amqps://"),
        ("amqp://h/", {"connection": "nowhere"}, "there is no connection"),
    ],
)
def test_a_url_that_means_nothing_is_refused(url: str, more: dict[str, Any], word: str) -> None:
    """The sentence says what would be right and does not show the URL."""
    with pytest.raises(ValueError, match=word):
        place(url, **more)


def test_a_connection_is_completed_by_what_stands_in_the_sensor() -> None:
    """What the sensor says goes before what its connection says; paths start at the configuration's folder."""
    connections = {"mq": {"kind": "rabbitmq", "url": "amqps://shared/a", "vhost": "b", "tls": {"ca": "ca.pem"}}}
    found = place(None, connections, connection="mq", vhost="c")  # type: ignore[arg-type]
    assert (found.host, found.vhost) == ("shared:5671", "c")
    assert found.tls is not None
    assert found.tls.ca == "/etc/gate/ca.pem"
    for broken, word in (
        ({"kind": "aws"}, "kind 'aws'"),
        ({"kind": "rabbitmq", "uri": "x"}, "uri"),
        ({"kind": "rabbitmq"}, "no `url`"),
    ):
        with pytest.raises(ValueError, match=word):
            place(None, {"mq": broken}, connection="mq")  # type: ignore[arg-type]


def test_run_finished_needs_an_identity() -> None:
    """Without one a message that comes again would start its runs again; the sentence names the three ways out."""
    given = {"url": "amqp://h", "queue": "jobs", "ack": "run_finished"}
    with pytest.raises(ValidationError, match=r"message_id.*`id:` expression.*`dedup"):
        RabbitOptions.model_validate(given)
    for more in ({"id": "headers.message_id"}, {"dedup": {"body": "24h"}}):
        assert RabbitOptions.model_validate({**given, **more}).ack == "run_finished"


def test_the_window_is_what_fits() -> None:
    """`prefetch` is lowered to as many of the largest messages as `prefetch_size` holds, and never to none."""
    base = {"url": "amqp://h", "queue": "jobs"}
    for more, window in (
        ({}, 256),
        ({"prefetch": 10}, 10),
        ({"prefetch_size": "8MiB"}, 8),
        ({"prefetch_size": "64KiB", "max_message": "1GiB"}, 1),
    ):
        assert RabbitOptions.model_validate({**base, **more}).window == window


@given(st.lists(st.lists(st.integers(1, 40), max_size=12), max_size=12))
def test_acknowledgements_settle_exactly_what_was_meant(rounds: list[list[int]]) -> None:
    """Whatever is settled in whatever order, the broker is told of each tag once and of none that is open."""
    tags = Outstanding()
    broker = set(range(1, 41))  # what the broker thinks is outstanding
    for tag in sorted(broker):
        tags.add(tag)
    meant: set[int] = set()
    for some in rounds:
        meant |= set(some)
        for tag, multiple in tags.settled(some):
            assert tag in broker  # an unknown tag would close the channel
            broker -= {one for one in broker if one <= tag} if multiple else {tag}
        assert broker == set(range(1, 41)) - meant


# -- frames ----------------------------------------------------------------------------------------------------------
def header(written: bytes, size: int = 3) -> bytes:
    return struct.pack(">HHQ", 60, 0, size) + written


def test_a_header_that_can_be_read_passes_as_it_is() -> None:
    """Nothing is touched that the client can read."""
    for written in (properties(), properties(message_id=b"m", headers=entry(b"a", b"\xff"), timestamp=1)):
        assert mended_header(header(written)) == header(written)


@given(st.binary(max_size=200))
def test_any_header_can_be_read_once_it_is_mended(written: bytes) -> None:
    """Whatever bytes stand in it, the client reads the mended one, which keeps the body's size."""
    found = ContentHeader()
    found.unmarshal(mended_header(header(written)))
    assert found.body_size == 3
    told = found.properties.headers or {}
    if UNREADABLE in told:
        original = told[ORIGINAL]
        assert (original if isinstance(original, bytes) else str(original).encode()) == written


@given(st.binary(max_size=255), st.binary(max_size=255))
def test_any_routing_key_can_be_read_once_it_is_mended(exchange: bytes, key: bytes) -> None:
    """Deliveries with names of any bytes decode; names that are text stay as they are."""
    tag = struct.pack(">Q", 7) + b"\x01"
    payload = (
        struct.pack(">HH", 60, 60) + b"\x01c" + tag + bytes((len(exchange),)) + exchange + bytes((len(key),)) + key
    )
    whole = struct.pack(">BHI", 1, 1, len(mended_method(payload))) + mended_method(payload) + b"\xce"
    _, _, found = frames.unmarshal(whole)
    assert isinstance(found, Basic.Deliver)
    assert (found.delivery_tag, found.redelivered, found.consumer_tag) == (7, True, "c")
    try:
        assert found.routing_key == key.decode()
    except UnicodeDecodeError:
        assert "%" in (found.routing_key or "")


async def test_the_reader_hands_out_the_same_bytes_in_any_pieces() -> None:
    """However the client asks, it gets the frames as they came, and the end as an end."""
    inner = asyncio.StreamReader()
    mended = MendingReader(inner)
    head = header(properties(message_id=b"m"))
    stream = b"".join(
        struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"
        for kind, payload in ((2, head), (3, b"abc"), (8, b""))
    )
    inner.feed_data(stream)
    inner.feed_eof()
    got = b""
    while len(got) < len(stream):
        got += await mended.readexactly(1 if len(got) % 2 else min(6, len(stream) - len(got)))
    assert got == stream
    assert mended.at_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await mended.readexactly(1)
