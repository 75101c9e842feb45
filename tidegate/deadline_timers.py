"""The handlers of deadlines' timers; see `tidegate.deadlines` for what is late. One transaction per look."""

from collections.abc import Sequence

import orjson

from pipelines.freshness import lasting, told
from pipelines.run import Run, RunState
from tidegate.absorb import Facts
from tidegate.alerts.raising import raise_alerts
from tidegate.deadlines import (
    DAY,
    KIND,
    LATE,
    Deadlines,
    is_final,
    why_at_risk,
    why_late,
    why_unstarted,
)
from tidegate.rules import Rules, RulesInForce
from tidegate.runs import OwnEvents
from tidegate.store.records import Timer
from tidegate.store.tx import Tx
from tidegate.watch_events import in_time_alert, late_alert, late_event

ARMED = "deadline/"  # settings: what the timer of a pipeline's days was set for
_UNKNOWN = 60_000_000  # µs until a replica that knows of the deadline has taken its timer


class DeadlineTimers:
    """Handles `start/RUN`, `risk/RUN`, `finish/RUN` and `day/PIPELINE`."""

    def __init__(self, rules: RulesInForce, own: OwnEvents, service: str) -> None:
        self._rules = rules
        self._own = own
        self._service = service

    def ring(self, tx: Tx, timer: Timer) -> Facts | None:
        """Look at a run, or at a day, whose time has come."""
        what, _, name = timer.key.partition("/")
        look = _Look(tx, self._rules.current, self._own, self._service)
        if what == DAY:
            return look.day(name, timer)
        tx.fences([name])  # its end waits for us, or we see it
        run = tx.get_runs([name]).get(name)
        if run is None or run.state.final:
            return None
        rule = look.rules.deadlines.get(run.pipeline, Deadlines())
        if what == "start":
            return look.start(run, rule)
        due = int(orjson.loads(timer.payload)["due"])
        return look.risk(run, rule, due) if what == "risk" else look.finish(run, rule, due)


class _Look:
    """One look, in one transaction."""

    def __init__(self, tx: Tx, rules: Rules, own: OwnEvents, service: str) -> None:
        self.rules = rules
        self._tx = tx
        self._own = own
        self._service = service
        self._now = tx.now()

    def start(self, run: Run, rule: Deadlines) -> Facts | None:
        if run.state != RunState.QUEUED:
            return None
        self._note(run.pipeline, run.uid)
        due = run.created_at + (rule.start_within or 0)
        return self._tell(run.pipeline, "late", f"{run.uid}/late/start", why_unstarted(run, rule, self._now), due, run)

    def finish(self, run: Run, rule: Deadlines, due: int) -> Facts | None:
        self._note(run.pipeline, run.uid)
        return self._tell(run.pipeline, "late", f"{run.uid}/late/finish", why_late(run, due, _zone(rule)), due, run)

    def risk(self, run: Run, rule: Deadlines, due: int) -> Facts | None:
        takes = self._tx.usual_duration(run.pipeline)
        if takes is None or self._now >= due:  # the deadline itself tells then
            return None
        why = why_at_risk(run, due, takes, _zone(rule), self._now)
        if why is None:
            return None
        self._note(run.pipeline, run.uid)
        return self._tell(run.pipeline, "late_risk", f"{run.uid}/late_risk", why, due, run)

    def day(self, pipeline: str, timer: Timer) -> Facts | None:
        """Look whether the run of a day has come; then set the timer of the next look."""
        rule = self.rules.deadlines.get(pipeline)
        if rule is None or rule.finish_by is None:
            if self._tx.get_settings(ARMED + pipeline).get(ARMED + pipeline):  # another replica knows of it
                self._tx.set_timers([Timer(self._now + _UNKNOWN, KIND, timer.key, timer.payload)])
            return None
        plan = orjson.loads(timer.payload)
        due, early = int(plan["due"]), plan["early"] and self._now < int(plan["due"])
        last = due if early else rule.finish_by.before(self._now + 1)  # of days that were missed only the last counts
        armed = int(plan["armed"])
        facts = self._missing(pipeline, rule, max(due, last), armed, early=early)
        if early:
            self._tx.set_timers([Timer(due, KIND, timer.key, _plan(due, armed, early=False))])
        else:
            arm_day(self._tx, pipeline, rule, self._now, armed)
        return facts

    def _missing(self, pipeline: str, rule: Deadlines, due: int, armed: int, *, early: bool) -> Facts | None:
        """Tell of the run that there should be; one that goes on tells of itself.

        What a schedule was to start before this was watched (`armed`) is not asked for.
        """
        assert rule.finish_by is not None  # noqa: S101 - asked by the caller
        since, zone = rule.finish_by.before(due), rule.finish_by.timezone
        if rule.expected(since, min(due, self._now), armed) is None:
            return None
        runs = self._tx.runs_between(pipeline, since, due)
        if any(run.state == RunState.SUCCEEDED or not is_final(run.state) for run in runs):
            return None
        self._note(pipeline, DAY)
        found = f"its last run {runs[0].uid} {runs[0].state}" if runs else "no run has come"
        if early:
            takes = lasting((due - self._now) / 1e6)
            why = f"{pipeline} is to be done by {told(due, zone)}, a run usually takes {takes} or more, and {found}"
            return self._tell(pipeline, "late_risk", f"{pipeline}/late_risk/{due}", why, due, None)
        why = f"{pipeline} was to be done by {told(due, zone)}, and {found}"
        return self._tell(pipeline, "late", f"{pipeline}/late/{due}", why, due, None)

    def _note(self, pipeline: str, name: str) -> None:
        self._tx.put_setting(f"{LATE}{pipeline}/{name}", str(self._now))

    def _tell(self, pipeline: str, change: str, id: str, why: str, due: int, run: Run | None) -> Facts:
        facts, rules = Facts(), self.rules.alerts
        if rules.active:
            severity = "error" if change == "late" else "warning"
            alert = late_alert(rules, pipeline, id, why, self._now, run, severity=severity)
            facts.alerts += raise_alerts(self._tx, rules, [alert])
        data = {"due": told(due), "reason": why}
        self._own.publish(
            self._tx, [late_event(pipeline, change, id, run, data, self._service, self._now)], facts
        )  # fmt: skip
        return facts


def arm_day(tx: Tx, pipeline: str, rule: Deadlines, now: int, armed: int) -> None:
    """Set the timer of the next day on which a run of a pipeline, watched since `armed`, may be missed."""
    if rule.finish_by is None or rule.finish_by.expect == "never":
        return
    if rule.finish_by.expect == "scheduled" and not rule.schedules:
        return
    due = rule.finish_by.after(now)
    takes = tx.usual_duration(pipeline)
    early = takes is not None and due - takes > now
    look = due - (takes or 0) if early else due
    tx.set_timers([Timer(look, KIND, f"{DAY}/{pipeline}", _plan(due, armed, early=early))])


class ArmDeadlines:
    """The write that sets the timers of days, and forgets what was late of pipelines that promise nothing any more.

    At every start and reload. Idempotent: a day whose timer is set already keeps it, so that a restart at the wrong
    moment skips none.
    """

    name = "arm_deadlines"

    def __init__(self, rules: RulesInForce) -> None:
        self._rules = rules

    def __call__(self, tx: Tx, items: Sequence[None]) -> Sequence[None]:
        """Arm."""
        rules = self._rules.current
        armed = tx.get_settings(ARMED)
        for pipeline, rule in sorted(rules.deadlines.items()):
            meaning = "" if rule.finish_by is None else f"{rule.finish_by} {len(rule.schedules)}"
            if armed.get(ARMED + pipeline) != meaning:
                tx.put_setting(ARMED + pipeline, meaning)
                arm_day(tx, pipeline, rule, tx.now(), tx.now())
        for name in armed:
            if name.removeprefix(ARMED) not in rules.deadlines:
                tx.put_setting(name, None)
        self._forget(tx, rules)
        return [None] * len(items)

    def _forget(self, tx: Tx, rules: Rules) -> None:
        over: set[str] = set()
        for name in tx.get_settings(LATE):
            pipeline, _, what = name.removeprefix(LATE).partition("/")
            if pipeline not in rules.deadlines:
                tx.put_setting(name, None)
                if what:
                    over.add(pipeline)
        if over and rules.alerts.active:
            now = tx.now()
            raise_alerts(
                tx, rules.alerts, [in_time_alert(rules.alerts, one, f"{one}/over/{now}", now) for one in sorted(over)]
            )


def _plan(due: int, armed: int, *, early: bool) -> str:
    return orjson.dumps({"due": due, "armed": armed, "early": early}).decode()


def _zone(rule: Deadlines) -> str:
    return "UTC" if rule.finish_by is None else rule.finish_by.timezone
