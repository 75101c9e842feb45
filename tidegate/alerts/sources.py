"""From what happened to alerts: runs, checks, dead letters, failing triggers, ill sensors, overdue sets, the service.

Pure. Callers ask only while somebody is to be told (`AlertRules.active`), inside the transaction that makes durable
what the alert tells of.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipelines.run import CheckResult, Run, RunState, RunStep, TaskState
from sensors.batch import DeadLetter, Notice
from tidegate.alerts.alert import Alert
from tidegate.alerts.routing import AlertRules
from tidegate.store.alert_records import AlertMessage
from tidegate.store.records import CountKey
from triggers.decision import Decision, Outcome
from triggers.gather import Alarm

REFUSED = "refused"  # the reason of dead letters of what broke what is expected
_FEW = 5  # alerts of one batch that have words of their own


def run_alerts(rules: AlertRules, run: Run, change: str, step: RunStep | None, now: int) -> Iterator[Alert]:
    """Yield what a change of a run is to tell: failed checks first, then that it failed, or that runs succeed again."""
    if step is not None:
        yield from _check_alerts(rules, run, step.checks, now)
    if change in (RunState.FAILED, RunState.SUCCEEDED):
        failed = change == RunState.FAILED
        yield Alert(
            kind="run_failed",
            id=f"{run.uid}/{change}",
            key=f"run_failed/{run.pipeline}",
            subject=run.pipeline,
            at=now,
            text=_cause(step) if failed else f"run {run.uid} succeeded",
            ends=not failed,
            began=None if failed else run.started_at or run.created_at,
            pipeline=run.pipeline,
            trigger=run.trigger or "",
            tags=rules.tags(pipeline=run.pipeline, trigger=run.trigger),
            refs={"run": run.uid},
        )


def _cause(step: RunStep | None) -> str:
    """Return why a run failed: what the run says, and what its failed task says."""
    if step is None:
        return "the run failed"
    said = step.error or "the run failed"
    for task in step.tasks:
        if task.state is TaskState.FAILED and task.error and task.error not in said:
            return f"{said}: {task.error}"
    return said


def _check_alerts(rules: AlertRules, run: Run, checks: Sequence[CheckResult], now: int) -> Iterator[Alert]:
    """Yield one alert for all checks of a task on a dataset."""
    together: dict[tuple[str, str], list[CheckResult]] = {}
    for check in checks:
        together.setdefault((check.task, check.dataset), []).append(check)
    for (task, dataset), results in together.items():
        broken = [check for check in results if not check.passed]
        words = [f"{check.check}: {check.message}" for check in broken]
        more = f" (and {len(words) - 3} more)" if len(words) > 3 else ""
        yield Alert(
            kind="check_failed",
            id=f"{run.uid}/{task}/{dataset}/{max(check.at for check in results)}",
            key=f"check_failed/{run.pipeline}/{task}/{dataset}",
            subject=dataset,
            at=now,
            text="; ".join(words[:3]) + more if broken else f"all checks of task {task} passed in run {run.uid}",
            severity="error" if any(check.severity == "fail" for check in broken) else "warning",
            count=max(1, len(broken)),
            ends=not broken,
            began=None if broken else run.started_at or run.created_at,
            pipeline=run.pipeline,
            trigger=run.trigger or "",
            dataset=dataset,
            tags=rules.tags(pipeline=run.pipeline, trigger=run.trigger, dataset=dataset),
            refs={"run": run.uid},
        )


def letter_alerts(
    rules: AlertRules, sensor: str, letters: Sequence[tuple[str, DeadLetter]], now: int
) -> Iterator[Alert]:
    """Yield alerts of dead letters (uid, letter) of one sensor: a few in their own words, the rest as a number."""
    for kind in ("event_refused", "dead_letter"):
        mine = [one for one in letters if (one[1].reason == REFUSED) == (kind == "event_refused")]
        for index, (uid, letter) in enumerate(mine[:_FEW]):
            refs = {"dead_letter": uid}
            if letter.event_uid is not None:
                refs["event"] = letter.event_uid
            where = f"{letter.position}: " if letter.position and letter.position not in letter.detail else ""
            yield Alert(
                kind=kind,
                id=uid,
                key=f"{kind}/{sensor}",
                subject=sensor,
                at=now,
                text=f"{where}{letter.detail}",
                count=1 if index < _FEW - 1 else len(mine) - index,
                sensor=sensor,
                tags=rules.tags(sensor=sensor),
                refs=refs,
            )


def trigger_alerts(
    rules: AlertRules, counts: Mapping[CountKey, int], decisions: Iterable[Decision], uid: str, now: int
) -> Iterator[Alert]:
    """Yield one alert per trigger that failed on events of a transaction; `uid` names what `counts` were made for."""
    first: dict[str, Decision] = {}
    for decision in decisions:
        if decision.outcome is Outcome.ERROR:
            first.setdefault(decision.trigger, decision)
    for (what, trigger, outcome), n in counts.items():
        if what != "trigger" or outcome != Outcome.ERROR.value or not n:
            continue
        shown = first.get(trigger)
        refs = {"decision": shown.uid, "event": shown.events[0]} if shown is not None and shown.events else {}
        yield Alert(
            kind="trigger_error",
            id=f"{trigger}/{shown.uid if shown is not None else uid}",
            key=f"trigger_error/{trigger}",
            subject=trigger,
            at=now,
            text=shown.reason if shown is not None else "the rule fails on events as it did before",
            count=n,
            trigger=trigger,
            tags=rules.tags(trigger=trigger),
            refs=refs,
        )


def join_alert(rules: AlertRules, alarm: Alarm, now: int) -> Alert:
    """Return the alert of a key that waited in vain, or of a part that came after it: each key is told of by itself."""
    verdict, trigger = alarm.verdict, alarm.name.trigger
    late = f"/{verdict.events[0]}" if alarm.change == "late" and verdict.events else ""
    return Alert(
        kind="join_overdue",
        id=f"{verdict.round}/{alarm.change}{late}",
        key=f"join_overdue/{trigger}",
        subject=trigger,
        at=now,
        text=f"{alarm.name.key}: {verdict.reason}",
        trigger=trigger,
        tags=rules.tags(trigger=trigger),
        refs={"event": verdict.events[-1]} if verdict.events else {},
    )


def notice_alerts(rules: AlertRules, sensor: str, notices: Iterable[Notice], now: int) -> Iterator[Alert]:
    """Yield what a sensor says of sets of files."""
    for notice in notices:
        late = notice.what == "set_overdue"
        yield Alert(
            kind="set_overdue",
            id=f"{sensor}/{notice.about}/{notice.since}" if late else f"{sensor}/in time/{now}",
            key=f"set_overdue/{sensor}",
            subject=sensor,
            at=now,
            text=notice.detail,
            ends=not late,
            sensor=sensor,
            tags=rules.tags(sensor=sensor),
        )


def health_alert(rules: AlertRules, sensor: str, healthy: bool, reason: str, now: int) -> Alert:
    """Return the alert of a sensor that became unhealthy, or recovered."""
    return Alert(
        kind="sensor_unhealthy",
        id=f"{sensor}/{'recovered' if healthy else 'unhealthy'}/{now}",
        key=f"sensor_unhealthy/{sensor}",
        subject=sensor,
        at=now,
        text=reason or ("it does its work again" if healthy else "it does not do its work"),
        ends=healthy,
        sensor=sensor,
        tags=rules.tags(sensor=sensor),
    )


def missed_alert(rules: AlertRules, sensor: str, missed: int, now: int) -> Alert:
    """Return the alert of a schedule that left out ticks which it does not make up for."""
    return Alert(
        kind="schedule_missed",
        id=f"{sensor}/missed/{now}",
        key=f"schedule_missed/{sensor}",
        subject=sensor,
        at=now,
        text=f"{missed} times of the schedule passed while it could not be followed, and are not made up for",
        count=missed,
        sensor=sensor,
        tags=rules.tags(sensor=sensor),
    )


def config_alert(rules: AlertRules, refusal: str | None, now: int) -> Alert:
    """Return the alert of a changed configuration that was refused (None: one was put in force)."""
    return Alert(
        kind="config_refused",
        id=f"{'accepted' if refusal is None else 'refused'}/{now}",
        key="config_refused",
        subject=rules.service,
        at=now,
        text=refusal or "a valid configuration is in force",
        ends=refusal is None,
    )


def undelivered_alert(message: AlertMessage, target: str, error: str | None, now: int) -> Alert:
    """Return the alert of a message that could not be delivered for a while (error None: one was delivered at last)."""
    return Alert(
        kind="alert_undelivered",
        id=f"{message.message}/{message.target}/{'delivered' if error is None else 'undelivered'}",
        key=f"alert_undelivered/{message.route}/{message.target}",
        subject=message.route,
        at=now,
        text=f"{target} takes messages again" if error is None else f"{target}: {error}",
        ends=error is None,
    )
