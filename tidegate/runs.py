"""Runs in the store: claim, renew, advance, cancel, start by hand, resume; each a group-committed write.

Every write of a holder is conditional on the run's fence. What a change tells the world (`tidegate.run.…`,
`tidegate.dataset.…`, `tidegate.check.…`) is written as an own event in the same transaction, and judged there, so that
chained pipelines start exactly when the change is durable. Own events that no rule could match are counted, not stored.
What people are to be told of it is written there too.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipelines.executor import EngineTraits, begin
from pipelines.pipeline import PipelineDef, from_json
from pipelines.ports import Claimed, Renewal
from pipelines.run import LogLine, Run, RunState, RunStep, TaskRun, TaskState
from pipelines.step import MAX_ERROR
from sensors.event import OWN_SENSOR, Event
from sensors.w3c import child_of, new_root
from tidegate.absorb import Facts, Incoming, MintRoot, absorb
from tidegate.alerts.raising import raise_alerts
from tidegate.alerts.sources import join_alert, run_alerts
from tidegate.deadlines import settle_late
from tidegate.failpoints import FailPoint, pass_by
from tidegate.own_events import join_event, own_events, wants_alert
from tidegate.rules import RulesInForce
from tidegate.store.records import ClaimAsk, ClaimedRow, CountKey, NewId, RunUpdate, Timer
from tidegate.store.tx import Tx
from tidegate.store.watch_port import DatasetName
from tidegate.watching import FRESHNESS

_log = logging.getLogger("tidegate.runs")
_DEFINITIONS_KEPT = 512
_REMEMBER = 604_800_000_000  # µs that a change which was told is remembered


@dataclass(frozen=True, slots=True)
class Claims:
    """The answer to one claim: the runs, and the facts of own events written beside them."""

    runs: Sequence[Claimed]
    facts: Facts | None = None


class OwnEvents:
    """Writes own events inside a transaction. Shared by the writes below."""

    def __init__(
        self,
        rules: RulesInForce,
        shard: str,
        service: str,
        fail_point: FailPoint = pass_by,
        mint_root: MintRoot = new_root,
    ) -> None:
        self._rules = rules
        self._shard = shard
        self._service = service
        self._fail_point = fail_point
        self._mint_root = mint_root

    def write(self, tx: Tx, changes: Sequence[tuple[Run, str, RunStep | None]], facts: Facts) -> None:
        """Write the own events of (run, change, step) triples, `change` being `started`, `succeeded`, `failed`, …

        A change that was told before, because the answer to it was lost and it came again, is not told again. Runs that
        are cancelled in consequence before they started are told as well; the depth of chains ends this.
        """
        self._write(tx, changes, facts)
        self.tell(tx, facts)

    def tell(self, tx: Tx, facts: Facts) -> None:
        """Tell of what followed: runs that were cancelled while they waited (`when_busy: cancel_running`), and keys
        that are overdue or whose parts came late."""
        while facts.cancelled or facts.alarms:
            uids, facts.cancelled = facts.cancelled, []
            alarms, facts.alarms = facts.alarms, []
            if uids:
                runs = tx.get_runs(uids)
                self._write(tx, [(runs[uid], "cancelled", None) for uid in uids if uid in runs], facts)
            if alarms:
                now, rules = tx.now(), self._rules.current.alerts
                self._store(tx, [(join_event(alarm, self._service, now), None) for alarm in alarms], facts)
                if rules.active:
                    alerts = [join_alert(rules, alarm, now) for alarm in alarms if wants_alert(alarm)]
                    facts.alerts += raise_alerts(tx, rules, alerts)

    def publish(self, tx: Tx, events: Sequence[Event], facts: Facts) -> None:
        """Write own events that tell of no run's change, and what follows from them."""
        self._store(tx, [(event, None) for event in events], facts)
        self.tell(tx, facts)

    def look_at(self, tx: Tx, written: Sequence[DatasetName]) -> None:
        """Have the freshness of what was written looked at soon."""
        fresh = self._rules.current.freshness.written
        names = sorted({name for one in written for name in fresh.get(one, ())})
        if names:
            now = tx.now()
            tx.set_timers([Timer(now, FRESHNESS, name) for name in names])

    def _write(self, tx: Tx, changes: Sequence[tuple[Run, str, RunStep | None]], facts: Facts) -> None:
        now = tx.now()
        told = [
            (event, run.run_span)
            for run, change, step in changes
            for event in own_events(run, change, step, self._service, now)
        ]
        self._store(tx, told, facts)
        current = self._rules.current
        rules = current.alerts
        in_time = settle_late(tx, current.deadlines, rules, changes, now) if current.deadlines else ()
        if rules.active:
            alerts = [alert for change in changes for alert in run_alerts(rules, *change, now)]
            facts.alerts += raise_alerts(tx, rules, [*alerts, *in_time])

    def _store(self, tx: Tx, told: Sequence[tuple[Event, str | None]], facts: Facts) -> None:
        """Store and judge own events, each with the context above it; those that no rule could want are counted."""
        rules = self._rules.current
        now = tx.now()
        counts: dict[CountKey, int] = {}
        incoming = []
        for event, parent in told:
            if rules.rules.wants(event.sensor, event.type, event.subject):
                incoming.append(Incoming(event, parent))
            else:
                key = ("sensor", event.sensor, "unwatched")
                counts[key] = counts.get(key, 0) + 1
        if incoming:
            ids = [NewId(one.event.sensor, one.event.id, one.event.uid, now + _REMEMBER) for one in incoming]
            known = tx.new_event_ids(ids)
            incoming = [one for one in incoming if known[one.event.sensor, one.event.id] == one.event.uid]
            counts["sensor", OWN_SENSOR, "stored"] = len(incoming)
            if len(incoming) < len(ids):
                counts["sensor", OWN_SENSOR, "duplicate"] = len(ids) - len(incoming)
        if counts:
            tx.add_counts(self._shard, counts)
        absorb(tx, rules, incoming, self._shard, facts, self._fail_point, self._mint_root)


class Claim:
    """Claims runs and writes the start intention of their first tasks in the same transaction."""

    name = "claim"

    def __init__(self, rules: RulesInForce, traits: Callable[[], Mapping[str, EngineTraits]], own: OwnEvents) -> None:
        self._rules = rules
        self._traits = traits
        self._own = own
        self._definitions: dict[str, PipelineDef] = {}

    def __call__(self, tx: Tx, items: Sequence[ClaimAsk]) -> Sequence[Claims]:
        """Claim for every ask of the group."""
        rules = self._rules.current
        now = tx.now()
        traits = self._traits()
        facts = Facts()
        answers: list[Claims] = []
        started: list[tuple[Run, str, RunStep | None]] = []
        changed: list[TaskRun] = []
        unable: list[tuple[ClaimedRow, RunStep]] = []
        for rows in tx.claim_runs(items, rules.concurrency):
            claims = []
            for row in rows:
                try:
                    definition = self._definition(row.run.definition, row.definition)
                    new = begin(
                        definition, row.run, row.tasks, traits, now, taken_over=row.taken_over, mint_span=child_of
                    )
                except Exception as error:  # noqa: BLE001 - one run that cannot be begun must not keep all others back
                    unable.append((row, _unable(row, error, now)))
                    continue
                changed.extend(new)
                by_uid = {task.uid: task for task in new}
                tasks = tuple(by_uid.pop(task.uid, task) for task in row.tasks) + tuple(by_uid.values())
                claims.append(Claimed(row.run, tasks, definition, row.taken_over))
                if not row.taken_over:
                    started.append((row.run, "started", None))
            answers.append(Claims(claims))
        for row, step in unable:
            changed.extend(step.tasks)
            started.append((row.run, "failed", step))
            end = RunUpdate(run=step.run, fence=step.fence, state=RunState.FAILED, finished_at=now, error=step.error)
            tx.update_runs([end])
        if changed:
            tx.upsert_tasks(changed)
        if started:
            self._own.write(tx, started, facts)
        if answers:
            answers[0] = Claims(answers[0].runs, facts)
        return answers

    def _definition(self, name: str, text: str) -> PipelineDef:
        """Read a definition once; the few in use stay parsed."""
        found = self._definitions.get(name)
        if found is None:
            if len(self._definitions) >= _DEFINITIONS_KEPT:
                self._definitions.clear()
            found = self._definitions[name] = from_json(text)
        return found


def _unable(row: ClaimedRow, error: Exception, now: int) -> RunStep:
    """Return the end of a run that cannot be begun: it fails, visibly."""
    said = f"the run cannot be begun with the definition that it was started with: {type(error).__name__}: {error}"
    said = said.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:MAX_ERROR]
    _log.error("run %s failed: %s", row.run.uid, said, extra={"action": "run_unable"})
    tasks = [
        replace(task, state=TaskState.SKIPPED, finished_at=now, next_at=None, error=said, error_kind="unable")
        for task in row.tasks
        if not task.state.final
    ]
    return RunStep(run=row.run.uid, fence=row.run.fence, at=now, tasks=tasks, state=RunState.FAILED, error=said)


@dataclass(frozen=True, slots=True)
class Advanced:
    """The answer to one step: whether it was applied, and the facts it caused."""

    applied: bool
    facts: Facts | None = None


class Advance:
    """Applies steps of runs, fenced, with the own events they cause."""

    name = "advance"

    def __init__(self, own: OwnEvents) -> None:
        self._own = own

    def __call__(self, tx: Tx, items: Sequence[tuple[RunStep, Run]]) -> Sequence[Advanced]:
        """Apply all steps of the group whose fence is still the run's."""
        fences = tx.fences(sorted({step.run for step, _ in items}))
        facts = Facts()
        tasks: list[TaskRun] = []
        updates: list[RunUpdate] = []
        logs: list[LogLine] = []
        changes: list[tuple[Run, str, RunStep | None]] = []
        written: list[DatasetName] = []
        answers = []
        for step, run in items:
            if fences.get(step.run) != step.fence:
                answers.append(Advanced(applied=False))
                continue
            tasks.extend(step.tasks)
            logs.extend(step.logs)
            if step.datasets or step.checks:
                tx.insert_datasets(step.run, step.datasets, step.checks)
            final = step.state is not None and step.state.final
            if step.state is not None or step.error is not None:
                updates.append(
                    RunUpdate(
                        run=step.run,
                        fence=step.fence,
                        state=step.state,
                        finished_at=step.at if final else None,
                        error=step.error,
                    )
                )
            facts.checks.extend(step.checks)
            written.extend((write.namespace, write.name) for write in step.datasets if write.mode != "read")
            if final or step.datasets or step.checks:
                changes.append((run, str(step.state) if step.state is not None and final else "", step))
            answers.append(Advanced(applied=True))
        if tasks:
            tx.upsert_tasks(tasks)
        if updates:
            tx.update_runs(updates)
        if logs:
            tx.insert_logs(logs)
        if changes:
            self._own.write(tx, changes, facts)
        if written:
            self._own.look_at(tx, written)
        if answers:
            answers[0] = Advanced(answers[0].applied, facts)
        return answers


@dataclass(frozen=True, slots=True)
class RenewAsk:
    """A holder's runs whose leases shall live another `lease` µs."""

    holder: str
    runs: Sequence[str]
    lease: int


class Renew:
    """Extends leases by the database's clock."""

    name = "renew"

    def __call__(self, tx: Tx, items: Sequence[RenewAsk]) -> Sequence[Renewal]:
        """Renew for every holder of the group."""
        return [Renewal(*tx.renew(item.holder, item.runs, item.lease)) for item in items]


@dataclass(frozen=True, slots=True)
class CancelAsk:
    """Somebody wants a run to stop."""

    run: str
    reason: str


class Cancel:
    """Asks runs to stop: queued ones end at once, with their own event; running ones become `cancelling`."""

    name = "cancel"

    def __init__(self, own: OwnEvents) -> None:
        self._own = own

    def __call__(self, tx: Tx, items: Sequence[CancelAsk]) -> Sequence[tuple[str | None, Facts]]:
        """Return each run's new state (None: no such run) and the facts."""
        answers = []
        for item in items:
            facts = Facts()
            before = tx.get_runs([item.run]).get(item.run)
            state = tx.request_cancel(item.run, item.reason)
            if before is not None and not before.state.final and state == RunState.CANCELLED:
                self._own.write(tx, [(before, "cancelled", None)], facts)
            answers.append((state, facts))
        return answers
