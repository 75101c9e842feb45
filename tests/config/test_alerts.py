"""The section `alerts`: what becomes of what people write."""

from pathlib import Path
from typing import Any, get_args

import pytest

from config.alerts_section import AlertEvent
from config.check import check
from config.load import load_config
from config.model import AlertRoute
from tidegate.alerts.alert import KINDS


def read(folder: Path, text: str, **environ: str) -> AlertRoute:
    """Load a configuration with the route `a`."""
    file = folder / "tidegate.yaml"
    file.write_text(f"alerts: {{a: {text}}}\n")
    return load_config([file], environ=environ).alerts["a"]


def test_defaults_are_sane(tmp_path: Path) -> None:
    """Half a minute, four hours, twenty messages in ten minutes, a day; everything of at least `info`."""
    route = read(tmp_path, "{to: 'https://a.test/x', events: [run_failed]}")

    assert route == AlertRoute(name="a", to=("https://a.test/x",), events=frozenset({"run_failed"}))
    assert (route.group_wait, route.repeat_every, route.limit, route.limit_per) == (30.0, 14_400.0, 20, 600.0)
    assert (route.retry_for, route.severity, route.match) == (86_400.0, "info", {})


def test_one_and_many_read_alike(tmp_path: Path) -> None:
    """A name is a list of one; what is not said is not asked of an alert."""
    route = read(
        tmp_path, "{to: ['https://a.test', 'json://b.test'], events: [resolved], match: {tag: x, sensor: [a*]}}"
    )

    assert route.to == ("https://a.test", "json://b.test")
    assert route.match == {"tag": ("x",), "sensor": ("a*",)}


@pytest.mark.parametrize(
    ("text", "limit"),
    [("1/s", (1, 1.0)), ("20/10m", (20, 600.0)), ("5 / 1h", (5, 3_600.0)), ("100/d", (100, 86_400.0))],
)
def test_limits(text: str, limit: Any, tmp_path: Path) -> None:
    """A number of messages in a time, whose number may be left out."""
    route = read(tmp_path, f"{{to: 'https://a.test', events: [run_failed], limit: '{text}'}}")

    assert (route.limit, route.limit_per) == limit


@pytest.mark.parametrize("text", ["0/10m", "20/0s", "20", "m/10", "-1/10m", "20/10"])
def test_limits_that_are_none(text: str, tmp_path: Path) -> None:
    """What says no limit is refused with an example."""
    file = tmp_path / "tidegate.yaml"
    file.write_text(f"alerts: {{a: {{to: 'https://a.test', events: [run_failed], limit: '{text}'}}}}\n")

    (problem,) = check([file], environ={})
    assert "20/10m" in f"{problem.message} {problem.remedy}"


def test_the_quiet_time_is_no_shorter_than_the_wait(tmp_path: Path) -> None:
    """Who wants to gather for an hour is not told every minute."""
    route = read(tmp_path, "{to: 'https://a.test', events: [run_failed], group_wait: 1h, repeat_every: 1m}")

    assert route.repeat_every == 3_600.0


def test_a_secret_may_be_referred_to_in_any_part(tmp_path: Path) -> None:
    """References are filled in; the value shows in no repr."""
    route = read(
        tmp_path,
        "{to: 'mailto://me:${env:PW}@mail.test?to=${env:WHO}', events: [run_failed]}",
        PW="hunter2",
        WHO="x@y.z",
    )

    assert route.to == ("mailto://me:hunter2@mail.test?to=x@y.z",)
    assert "hunter2" not in repr(route)


def test_a_reference_alone_is_not_taken_for_the_url(tmp_path: Path) -> None:
    """`env:NAME` would stand for itself here; the remedy shows how it is written."""
    file = tmp_path / "tidegate.yaml"
    file.write_text("alerts: {a: {to: 'env:ALERT_URL', events: [run_failed]}}\n")

    problems = [str(problem) for problem in check([file], environ={})]
    assert any("write `${env:ALERT_URL}`" in problem for problem in problems)


def test_without_apprise_other_schemes_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who did not install the extra learns of it from the check, not from the first alert; plain HTTP needs none."""
    monkeypatch.setattr("config.alerts_section.find_spec", lambda _: None)
    file = tmp_path / "tidegate.yaml"
    file.write_text("alerts: {a: {to: ['https://a.test', 'slack://a/b/c'], events: [run_failed]}}\n")

    (problem,) = check([file], environ={})
    assert problem.message == "`slack://` needs the package apprise, which is not installed"
    assert problem.remedy == "install `tidegate[alerts]`"


def test_every_kind_of_alert_can_be_asked_for() -> None:
    """What the configuration accepts is what the service knows, and `resolved`."""
    assert set(get_args(AlertEvent)) == {*KINDS, "resolved"}
