"""Durations, sizes and starts as people write them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from sensors.units import Duration, Size, Start, StartAt, format_duration, parse_duration, parse_size, parse_start


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("6h", 21_600.0),
        ("7d", 604_800.0),
        ("1.5h", 5_400.0),
        (" 2s ", 2.0),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    """Every unit of the interface is read as seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["5", "5 m", "5mm", "m", "", "-5s", "1e3s", "٣s", "5M", 5, True, None, [], {}])
def test_what_is_no_duration_is_refused(value: Any) -> None:
    """A number without a unit, a negative time and anything else is an error that shows how to write it."""
    with pytest.raises(ValueError, match="500ms, 30s, 5m, 6h or 7d"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["999999999999d", float("nan"), float("inf"), -1.0])
def test_durations_have_bounds(value: Any) -> None:
    """What no clock could count is refused."""
    with pytest.raises(ValueError, match="between 0 and 100 years"):
        parse_duration(value)


def test_zero_needs_no_unit() -> None:
    """Nought is nought in every unit."""
    assert [parse_duration(value) for value in (0, "0", "0s", 0.0)] == [0.0] * 4


@given(st.integers(0, 10**9))
def test_a_formatted_duration_reads_back(millis: int) -> None:
    """Formatting and parsing are inverse."""
    assert parse_duration(format_duration(millis / 1000)) == pytest.approx(millis / 1000)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Hostile text never causes anything but a ValueError."""
    for parse in (parse_duration, parse_size, parse_start):
        try:
            parse(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65_536), ("5MiB", 5 * 2**20), ("512B", 512), ("1.5GiB", 3 * 2**29), ("2 MB", 2_000_000), (77, 77)],
)
def test_sizes_are_bytes(text: Any, size: int) -> None:
    """Binary and decimal units are read as bytes; a bare whole number is bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["5", "5 mb", "-1B", "", "KiB", True, 1.5, None, -1, 2**63, "99999999TiB"])
def test_what_is_no_size_is_refused(value: Any) -> None:
    """Anything else is an error."""
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


def test_the_vocabulary_of_start() -> None:
    """`now`, `beginning`, a timestamp with its offset, a date (midnight UTC), and a time back."""
    moment = round(datetime(2026, 1, 31, 5, tzinfo=UTC).timestamp() * 1e6)

    assert parse_start("now") == StartAt("now")
    assert parse_start("beginning").micros(99) == 0
    assert parse_start("2026-01-31T06:00:00+01:00").micros(99) == moment
    assert parse_start("2026-01-31").micros(0) == moment - 5 * 3_600_000_000
    assert parse_start("-7d").micros(604_800_000_001) == 1
    assert parse_start("-7d").micros(5) == 0
    assert parse_start("now").micros(42) == 42


@pytest.mark.parametrize("value", ["later", "-", "-7", "2026-13-01", "2026-01-31T06:00:00", 5, None, "+7d"])
def test_what_is_no_start_is_refused(value: Any) -> None:
    """Anything else, a timestamp without its offset included, is an error that shows how to write it."""
    with pytest.raises(ValueError, match=r"2026-01-31T06:00:00Z"):
        parse_start(value)


@pytest.mark.parametrize("text", ["now", "beginning", "2026-01-31T06:00:00Z", "-7d", "-36h"])
def test_a_start_reads_back(text: str) -> None:
    """Writing a start and reading it again changes nothing."""
    assert parse_start(str(parse_start(text))) == parse_start(text)


class _Options(BaseModel):
    every: Duration = 60.0
    body: Size = 1024
    start: Start


def test_the_types_stand_in_models() -> None:
    """Models validate, report and describe the three kinds of value."""
    options = _Options.model_validate({"every": "5m", "body": "64KiB", "start": "-7d"})

    assert (options.every, options.body, options.start) == (300.0, 65_536, StartAt("back", back=604_800.0))
    assert options.model_dump_json() == '{"every":"5m","body":65536,"start":"-7d"}'
    assert _Options.model_validate_json(options.model_dump_json()) == options
    assert _Options.model_json_schema()["properties"]["every"]["type"] == "string"
    assert _Options(every=1.5, start=StartAt("now")).every == 1.5
    for written in (5, 1.5):
        with pytest.raises(ValidationError, match="has no unit"):
            _Options.model_validate({"every": written, "start": "now"}, context={"written": True})
