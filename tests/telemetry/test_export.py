"""Settings from configuration and environment, and patience with receivers."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from config.model import Telemetry
from tests.support.otlp import closed_port, otlp_receiver
from tidegate.telemetry.otlp_http import OtlpHttp
from tidegate.telemetry.settings import ExportSettings, TelemetryError, export_settings


def test_the_configuration_wins_over_the_environment() -> None:
    """A configured endpoint is used whatever the environment says; headers are merged, the configured ones win."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://env:4318",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://env/own",
        "OTEL_EXPORTER_OTLP_HEADERS": "X-Key=env,other=1",
    }
    settings = export_settings(Telemetry(endpoint="http://file:4318/", headers={"x-key": "file"}), environ)

    assert (settings.traces_url, settings.metrics_url) == ("http://file:4318/v1/traces", "http://file:4318/v1/metrics")
    assert settings.traces_headers == {"x-key": "file", "other": "1"}


def test_a_signals_own_endpoint_is_taken_as_it_is() -> None:
    """`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is a whole URL; the other signal keeps the common base."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:4318",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces/in",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=1",
        "OTEL_EXPORTER_OTLP_HEADERS": "b=2",
    }
    settings = export_settings(Telemetry(), environ)

    assert (settings.traces_url, settings.metrics_url) == ("https://traces/in", "http://all:4318/v1/metrics")
    assert (settings.traces_headers, settings.metrics_headers) == ({"a": "1"}, {"b": "2"})


def test_headers_stay_out_of_repr() -> None:
    """Headers carry keys; the settings do not show them."""
    settings = export_settings(Telemetry(endpoint="http://a", headers={"authorization": "Bearer canary"}), {})

    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://x"}, "http"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:port"}, "URL"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "novalue"}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=b%0d%0ac"}, "line break"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "-1"}, "seconds"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_remedy(environ: dict[str, str], told: str) -> None:
    """A wrong variable is named in a sentence at start."""
    with pytest.raises(TelemetryError, match=told):
        export_settings(Telemetry(), environ)


class Patience:
    """A clock that waiting moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.time += seconds
        return False


def http(patience: Patience, wall: float = 0.0) -> OtlpHttp:
    return OtlpHttp(ExportSettings(timeout=2.0), patience.now, lambda: wall, lambda: 1.0)


def test_back_off_doubles_up_to_its_limit_and_ends() -> None:
    """Without an answer the pauses double to eight seconds, and after the patience the body is given up."""
    patience = Patience()
    delivery = http(patience).post(f"http://127.0.0.1:{closed_port()}/v1/traces", {}, b"", patience.wait)

    assert not delivery.ok
    assert "cannot be reached" in delivery.reason
    assert patience.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_retry_after_is_honoured() -> None:
    """Seconds and dates of Retry-After are waited for exactly; nonsense falls back to the back-off."""
    patience = Patience()
    wall = datetime(2026, 1, 1, tzinfo=UTC)
    with otlp_receiver() as receiver:
        date = format_datetime(wall.replace(second=7), usegmt=True)
        for text in ("3", date, "soon"):
            receiver.answers.append((503, {"retry-after": text}, b""))
        delivery = http(patience, wall.timestamp()).post(f"{receiver.url}/v1/traces", {}, b"", patience.wait)

    assert delivery.ok
    assert patience.waits == [3.0, 7.0, 2.0]


def test_a_receiver_that_asks_for_too_much_patience_is_given_up() -> None:
    """A Retry-After beyond our patience ends the attempt at once instead of filling the queue."""
    patience = Patience()
    with otlp_receiver() as receiver:
        receiver.answers.append((429, {"retry-after": "3600"}, b""))
        delivery = http(patience).post(f"{receiver.url}/v1/traces", {}, b"", patience.wait)

    assert (delivery.ok, patience.waits) == (False, [])
    assert "429" in delivery.reason


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500])
def test_other_answers_are_final(status: int) -> None:
    """What OTLP does not call retryable is not tried again, and redirects are not followed."""
    patience = Patience()
    with otlp_receiver() as receiver:
        receiver.answers.append((status, {"location": f"{receiver.url}/elsewhere"}, b""))
        delivery = http(patience).post(f"{receiver.url}/v1/traces", {}, b"", patience.wait)
        assert receiver.requests == 1

    assert not delivery.ok
    assert str(status) in delivery.reason
