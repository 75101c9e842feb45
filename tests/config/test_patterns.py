"""Triggers that wait for more than one event: what is written becomes plain patterns."""

from config.patterns import pattern_of
from tests.config.test_load import PIPELINE, Write, _load, write
from triggers.pattern import REMEMBER, SECOND, Absence, Count, Join, Late, Opens, Part, Source, Take
from triggers.trigger import RunRule

__all__ = ["write"]
SENSORS = "sensors: {crm: {kind: tide, path: ./x, start: now}, erp: {kind: tide, path: ./y, start: now}}\n"
HOUR = 3_600 * SECOND


def test_a_join_is_read(write: Write) -> None:
    """Parts with keys, a calendar, what is required, what happens to late parts and overdue keys."""
    text = """
triggers:
  six:
    join:
      of:
        crm: {sensor: crm, by: event.data.day}
        erp: {sensor: erp, types: [tide.high, tide.low], by: event.data.day, when: event.data.ok, take: all,
              filter: {exact: {subject: x}}}
      opens: {cron: "0 0 * * 1-5", key: 'day(now, "Europe/Oslo")'}
      until: "06:00"
      timezone: Europe/Oslo
      require: 2 of 2
      late: refire
    run: {pipeline: tell, key: key, params: {files: "${{ events.map(e, e.data.url) }}", n: "${{ size(parts.erp) }}"}}
    overdue: {alert: true, run: {pipeline: tell, params: {missing: "${{ missing }}"}}}
"""
    trigger = _load(write(SENSORS + PIPELINE + text)).triggers["six"]

    assert trigger.pattern == Join(
        parts=(
            Part(name="crm", source=Source(sensor="crm"), by="event.data.day"),
            Part(
                name="erp",
                source=Source(sensor="erp", types=("tide.high", "tide.low"), filter={"exact": {"subject": "x"}}),
                by="event.data.day",
                when="event.data.ok",
                take=Take.ALL,
            ),
        ),
        opens=Opens(cron="0 0 * * 1-5", key='day(now, "Europe/Oslo")'),
        until="06:00",
        timezone="Europe/Oslo",
        require="2 of 2",
        late=Late.REFIRE,
        remember=REMEMBER,
        overdue_alert=True,
    )
    assert [source.sensor for source in trigger.on] == ["crm", "erp"]
    assert trigger.overdue_runs == (RunRule(pipeline="tell", params={"missing": "${{ missing }}"}),)


def test_sequences_counts_and_absences_are_read(write: Write) -> None:
    """Each has its own key in a trigger; durations become microseconds."""
    text = """
triggers:
  then:
    sequence: {of: {a: {sensor: crm, by: event.subject}, b: {sensor: erp, by: event.subject}}, within: 1h,
               by_time: event, lateness: 1s}
    run: {pipeline: tell}
  often: {count: {sensor: crm, by: event.subject, reach: 5, within: 1h}, run: {pipeline: tell}}
  quiet: {absent: {sensor: crm, for: 15m}, run: {pipeline: tell}}
  unanswered:
    absent: {sensor: erp, by: event.subject, for: 1h, after: {sensor: crm, by: event.subject}}
    run: {pipeline: tell, params: {since: "${{ since }}"}}
"""
    triggers = _load(write(SENSORS + PIPELINE + text)).triggers
    crm, erp = (Part(name=name, source=Source(sensor=name), by="event.subject") for name in ("crm", "erp"))

    assert triggers["then"].pattern == Join(
        parts=(
            Part(name="a", source=Source(sensor="crm"), by="event.subject"),
            Part(name="b", source=Source(sensor="erp"), by="event.subject"),
        ),
        in_order=True,
        within=HOUR,
        lateness=SECOND,
        remember=0,
    )
    assert triggers["often"].pattern == Count(part=_with(crm, take=Take.ALL), reach=5, within=HOUR)
    assert triggers["quiet"].pattern == Absence(part=_with(crm, by=None, take=Take.LATEST), silence=HOUR // 4)
    assert triggers["unanswered"].pattern == Absence(
        part=_with(erp, take=Take.LATEST), silence=HOUR, after=_with(crm, take=Take.ALL)
    )


def test_a_trigger_on_single_events_has_no_pattern() -> None:
    """Nothing written, nothing waited for."""
    assert pattern_of(None, None, None, None, None) is None


def _with(part: Part, **changes: object) -> Part:
    from dataclasses import replace

    return replace(part, **changes)  # type: ignore[arg-type]
