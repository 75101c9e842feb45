"""The console's parts about data: results of checks, and how fresh datasets are. Pure: models in, markup out."""

import json
from collections.abc import Sequence

from tidegate.api.models_checks import CheckList, CheckView, FreshnessView
from tidegate.web.html import Html, tag, text
from tidegate.web.parts import dataset_link, facts, run_link, state, table, tight, when

_ROW = 300


def checks_part(checks: Sequence[CheckView], now: int, *, of_runs: bool = False) -> Html:
    """Build the section of results of checks; `of_runs`: they come from several runs."""
    head = ("Check", "Outcome", "Run" if of_runs else "Dataset", "Found", "Expected", "Rows", "When")
    return tag("div")(
        tag("h2")("Checks"),
        table(
            head,
            [
                (
                    tight(tag("b")(check.check)),
                    tag("td", cls="tight")(state(_outcome(check))),
                    run_link(check.run) if of_runs else dataset_link(check.dataset),
                    tag("span", cls=None if check.passed else "error")(check.message),
                    text(check.expected or ""),
                    _rows(check),
                    tight(when(check.at, now)),
                )
                for check in checks
            ],
            "No check has a result.",
        ),
    )


def _outcome(check: CheckView) -> str:
    return "passed" if check.passed else "warned" if check.severity == "warn" else "failed"


def _rows(check: CheckView) -> Html:
    if not check.sample:
        return text("")
    shown = [json.dumps(row, ensure_ascii=False)[:_ROW] for row in check.sample]
    return tag("code")("\n".join(shown))


def watched_part(watched: Sequence[FreshnessView], now: int) -> Html:
    """Build the section of the datasets that are watched by the clock."""
    return tag("div")(
        tag("h2")("Datasets"),
        table(
            ("Dataset", "State", "Why", "Expected", "Updated", "Looked at"),
            [
                (
                    tight(dataset_link(one.dataset)),
                    tag("td", cls="tight")(state(one.state)),
                    text(one.error or one.reason),
                    text(one.expected),
                    tight(when(one.updated_at, now)),
                    tight(when(one.checked_at, now)),
                )
                for one in watched
            ],
            "",
        ),
    )


def dataset_page(shown: CheckList, now: int) -> Html:
    """Build the page of a dataset."""
    fresh = shown.freshness
    about = Html()
    if fresh is not None:
        about = facts(
            (
                ("Freshness", state(fresh.state)),
                ("Why", fresh.error or fresh.reason or None),
                ("Expected", fresh.expected),
                ("Updated", when(fresh.updated_at, now) if fresh.updated_at else "never"),
                ("Stale since", when(fresh.stale_since, now) if fresh.stale_since else None),
                ("Looked at", when(fresh.checked_at, now) if fresh.checked_at else None),
                ("Where", tag("span", cls="mono")(fresh.uri)),
            )
        )
    return tag("div")(tag("h1")(shown.dataset), about, checks_part(shown.items, now, of_runs=True))
