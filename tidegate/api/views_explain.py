"""From stored decisions and explanations to verdicts. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tidegate.api.models import ChangeView, ClauseView
from tidegate.api.models_explain import InTheWay, Verdict, WaitingView
from tidegate.api.views import clause_view, moment
from tidegate.store.reader import Row
from triggers.change import Change
from triggers.decision import Outcome
from triggers.explain import Explanation
from triggers.tell import ClauseResult

RuleNow = Literal["same", "changed", "gone"]
_SINCE: Mapping[str, str] = {
    "same": "",
    "changed": "the rule has changed since",
    "gone": "the trigger is gone or disabled since",
}


def stored_verdict(row: Row, clauses: Sequence[ClauseResult], rule: RuleNow, states: Mapping[str, str]) -> Verdict:
    """Show a stored decision as a verdict, with all `clauses` on the way where they are known.

    `states` are those of runs.
    """
    clause = clause_view(row["clause"])
    known = [judged_clause(result) for result in clauses]
    paths = {one.path for one in known}
    if clause is not None and not {clause.path, f"{clause.path} (element {row['item']})"} & paths:
        # What the transaction knew beside the rule: a key, a lane, a pause. It decided, so it was not met.
        known.append(clause.model_copy(update={"passed": False}))
    run = row["run"]
    return Verdict(
        trigger=row["trigger"],
        outcome=Outcome(row["outcome"]),
        reason=row["reason"],
        note=_SINCE[rule],
        basis="stored",
        rule=rule,
        at=moment(row["at"]),
        version=row["version"],
        clauses=known,
        decision=row["uid"],
        trigger_event=row["trigger_event"],
        run=run,
        item=row["item"],
        waiting=_waiting(row),
        in_the_way=None if run is None else InTheWay(run=run, state=states.get(run)),
    )


def judged_verdict(explanation: Explanation, rule: RuleNow, note: str = "") -> Verdict:
    """Show what a rule makes of an event; a trigger that is no candidate has filtered it, in effect."""
    return Verdict(
        trigger=explanation.trigger,
        outcome=explanation.outcome or Outcome.FILTERED,
        reason=explanation.reason,
        note="; ".join(words for words in (_SINCE[rule], note) if words),
        basis="judged_now",
        rule=rule,
        at=None,
        version=explanation.version,
        clauses=[judged_clause(clause) for clause in explanation.clauses],
        decision=None,
        trigger_event=None,
        run=None,
        item=None,
        waiting=None,
        in_the_way=None,
    )


def judged_clause(clause: ClauseResult) -> ClauseView:
    """Show a clause with its parts, and what would turn it."""
    return ClauseView(
        path=clause.path,
        text=clause.text,
        expected=clause.expected,
        actual=clause.actual,
        passed=clause.passed,
        parts=[judged_clause(part) for part in clause.parts],
        changes=[change_view(change) for change in clause.changes],
    )


def change_view(change: Change) -> ChangeView:
    """Show a change of an event."""
    return ChangeView(path=list(change.steps), value=change.value, remove=change.remove, words=change.words)


def _waiting(row: Row) -> WaitingView | None:
    """Show what an open decision waits for, None for one that waits for no parts."""
    details: Mapping[str, Any] = row["details"] or {}
    if row["outcome"] != Outcome.WAITING or "key" not in details:
        return None
    return WaitingView(
        key=details["key"],
        there=dict(details.get("there") or {}),
        missing=list(details.get("missing") or ()),
        until=details.get("until"),
    )
