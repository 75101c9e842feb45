"""`on: {cron: …}`: a schedule of the trigger's own, known by name everywhere."""

from pathlib import Path

import pytest

from config.load import load_config
from config.model import ServiceConfig
from config.problems import ConfigProblems
from sensors.kinds.schedule import ScheduleOptions

PIPELINES = "pipelines: {report: {engine: command, argv: [echo]}}\n"


def _load(folder: Path, text: str) -> ServiceConfig:
    file = folder / "tidegate.yaml"
    file.write_text(text + PIPELINES)
    return load_config([file], environ={})


def _problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigProblems) as found:
        _load(folder, text)
    return [str(problem).partition("tidegate.yaml:")[2] for problem in found.value.problems]


def test_a_time_becomes_a_schedule_of_the_triggers_own(tmp_path: Path) -> None:
    """The sensor has the trigger's name, the trigger listens to it, and `defaults.sensor` is not about it."""
    config = _load(
        tmp_path,
        """
defaults: {sensor: {every: 1m}}
triggers:
  nightly: {on: {cron: "0 6 * * 1-5", timezone: Europe/Oslo, catch_up: all}, run: {pipeline: report}}
""",
    )
    entry = config.sensors["cron:nightly"]

    assert entry.kind.name == "schedule"
    assert entry.options == ScheduleOptions(cron="0 6 * * 1-5", timezone="Europe/Oslo", catch_up="all")
    assert [source.sensor for source in config.triggers["nightly"].on] == ["cron:nightly"]


def test_times_and_sensors_stand_side_by_side(tmp_path: Path) -> None:
    """Each time of a list has a sensor of its own, numbered from the second one on; the names of others stay."""
    config = _load(
        tmp_path,
        """
sensors:
  hook: {kind: webhook, path: /hooks/x, verify: none}
triggers:
  both:
    on: [{cron: "@daily"}, {sensor: hook}, {cron: "*/5 * * * *"}]
    run: {pipeline: report}
  other: {on: {cron: "@hourly"}, run: {pipeline: report}}
""",
    )

    assert [source.sensor for source in config.triggers["both"].on] == ["cron:both", "hook", "cron:both:2"]
    assert list(config.sensors) == ["hook", "cron:both", "cron:both:2", "cron:other"]


def test_another_time_is_another_configuration(tmp_path: Path) -> None:
    """The hash that decisions and runs name differs when the time does."""
    text = 'triggers: {a: {on: {cron: "0 6 * * *"}, run: {pipeline: report}}}\n'

    assert _load(tmp_path, text).hash != _load(tmp_path, text.replace("6", "7")).hash


@pytest.mark.parametrize(
    ("on", "said"),
    [
        (
            '{cron: "0 25 * * *"}',
            "1:27 triggers.a.on.cron: `0 25 * * *` is no cron line (Bad hour), write one such as 0 6 * * 1-5",
        ),
        (
            '{cron: "@daily", timezone: Europe/Olso}',
            "1:47 triggers.a.on.timezone: there is no time zone `Europe/Olso`, write one such as Europe/Oslo or UTC",
        ),
        ('[{cron: "@daily", filter: {}}]', "1:38 triggers.a.on[0].filter: unknown key"),
        ("{timezone: UTC}", "1:16 triggers.a.on.cron: `cron` is missing"),
    ],
)
def test_a_time_that_is_none_is_told_of_at_its_place(tmp_path: Path, on: str, said: str) -> None:
    """One problem, where it stands, with what would be right; the trigger is not complained of besides."""
    (found,) = _problems(tmp_path, f"triggers: {{a: {{on: {on}, run: {{pipeline: report}}}}}}\n")

    assert found.startswith(said)


def test_a_written_schedule_is_not_given_an_interval(tmp_path: Path) -> None:
    """`defaults.sensor.every` is how often others look; a schedule with `cron` does not get it."""
    config = _load(
        tmp_path,
        """
defaults: {sensor: {every: 1m, tags: [all]}}
sensors:
  weekdays: {kind: schedule, cron: "0 6 * * 1-5"}
""",
    )

    assert config.sensors["weekdays"].options == ScheduleOptions(cron="0 6 * * 1-5", tags=("all",))
