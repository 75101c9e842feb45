"""The console's answer to why: what each trigger concluded about an event, clause by clause. Pure."""

from collections.abc import Sequence

from tidegate.api.models import ClauseView
from tidegate.api.models_explain import Explanation, Verdict, WaitingView
from tidegate.web.html import Html, tag, text
from tidegate.web.parts import run_link, state, when

_MARKS = {True: ("✔", "ok", "it held"), False: ("✖", "bad", "it failed"), None: ("·", "off", "it did not matter")}


def why(found: Explanation, now: int) -> Html:
    """Build a card per verdict, those first that did not fire, and what does not listen, folded away."""
    order = {"error": 0, "fired": 2}
    verdicts = sorted(found.verdicts, key=lambda one: order.get(one.outcome, 1))
    if not verdicts:
        cards = [tag("div", cls="card")(tag("div", cls="empty")("No trigger listens to such events."))]
    else:
        cards = [_card(verdict, now) for verdict in verdicts]
    return tag("div")(*cards, _others(found) if found.other_count else Html())


def _card(verdict: Verdict, now: int) -> Html:
    item = f" [{verdict.item}]" if verdict.item is not None else ""
    way = verdict.in_the_way
    return tag("section", cls="card why")(
        tag("div", cls="head")(
            state(verdict.outcome),
            tag("b")(f"{verdict.trigger}{item}"),
            run_link(way.run) if way is not None else Html(),
            state(way.state) if way is not None and way.state else Html(),
            tag("span", cls="muted right")(when(verdict.at, now) if verdict.at else "judged again: nothing is stored"),
        ),
        tag("p")(verdict.reason),
        tag("p", cls="note")(verdict.note) if verdict.note else Html(),
        _waiting(verdict.waiting, now) if verdict.waiting is not None else Html(),
        _clauses(verdict.clauses) if verdict.clauses else Html(),
    )


def _waiting(waiting: WaitingView, now: int) -> Html:
    there = [tag("span", cls="part ok")(f"{part}{f' × {n}' if n != 1 else ''}") for part, n in waiting.there.items()]
    missing = [tag("span", cls="part wait")(part) for part in waiting.missing]
    return tag("dl", cls="facts")(
        tag("dt")("Key"),
        tag("dd", cls="mono")(waiting.key),
        tag("dt")("There"),
        tag("dd")(*(there or [text("nothing yet")])),
        tag("dt")("Missing"),
        tag("dd")(*(missing or [text("nothing")])),
        tag("dt")("Until"),
        tag("dd")(text(waiting.until or "for ever"), " ", _left(waiting.until, now)),
    )


def _left(until: str | None, now: int) -> Html:
    """Say whether the time is over: a page that was left open must not look as if there were some."""
    from datetime import datetime

    if until is None:
        return Html()
    over = datetime.fromisoformat(until).timestamp() * 1e6 < now
    return tag("span", cls="bad")("(over)") if over else Html()


def _clauses(clauses: Sequence[ClauseView]) -> Html:
    return tag("ul", cls="clauses")(*(_clause(clause) for clause in clauses))


def _clause(clause: ClauseView) -> Html:
    mark, tone, said = _MARKS[clause.passed]
    deeper = any(part.passed is False and part.changes for part in clause.parts)
    remedy = Html()
    if clause.changes and not deeper:
        words = " and ".join(change.words for change in clause.changes)
        remedy = tag("div", cls="remedy")("would do: ", tag("code")(words))
    return tag("li")(
        tag("span", cls=f"mark {tone}", title=said)(mark),
        tag("div")(
            tag("code")(clause.text or clause.path),
            tag("span", cls="kind place")(clause.path),
            tag("div", cls="found")(
                "expected ", tag("code")(clause.expected), " · found ", tag("code")(clause.actual or "nothing")
            )
            if clause.passed is not True or clause.expected == "false"
            else Html(),
            remedy,
            _clauses(clause.parts) if clause.parts else Html(),
        ),
    )


def _others(found: Explanation) -> Html:
    number = found.other_count
    more = number - len(found.others)
    return tag("details", cls="others")(
        tag("summary")(f"{number} other trigger{'s do' if number != 1 else ' does'} not listen to it"),
        tag("ul")(
            *(tag("li")(tag("b")(one.trigger), " ", tag("span", cls="muted")(one.reason)) for one in found.others),
            tag("li")(f"and {more:,} more") if more > 0 else Html(),
        ),
    )
