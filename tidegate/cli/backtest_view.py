"""What a back-test found, for people: per trigger the numbers, then firings that come, go and change, and why."""

import json as encoder
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.cli import out

_ORDER = ("fired", "error", "filtered", "duplicate")


def show(found: Mapping[str, Any]) -> None:
    """Print a report."""
    against = "the rules in force" if found["baseline"] == "in_force" else "what was recorded"
    span = f"{found['since']} … {found['reached']}"
    out.show(out.line(f"{found['events']:,} events", out.words(span, "dim"), f"against {against}"))
    for one in found["triggers"]:
        _trigger(one)
    if not found["triggers"]:
        out.show(out.words("no trigger differs", "dim"))
    for said in _notes(found):
        print(f"… {said}", file=sys.stderr)


def _notes(found: Mapping[str, Any]) -> list[str]:
    notes = []
    if found["stopped"]:
        notes.append(f"stopped at {found['reached']}: {found['stopped']}")
    if found["early"]:
        notes.append(f"{found['early']:,} firings were told before the other side had its last chance: too many waited")
    return notes


def _trigger(one: Mapping[str, Any]) -> None:
    before, after = one["version_before"], one["version_after"]
    version = "" if before == after else "new" if before is None else "gone" if after is None else "changed"
    same = out.words(f"{one['same']:,} the same", "dim")
    out.show(
        out.line(
            out.words(one["trigger"], "bold"),
            out.words(version, "dim"),
            out.words(f"+{one['gained']:,} would fire", "green" if one["gained"] else "dim"),
            out.words(f"-{one['lost']:,} would not any more", "red" if one["lost"] else "dim"),
            out.words(f"~{one['changed']:,} would ask for something else", "yellow" if one["changed"] else "dim"),
            same,
        )
    )
    pairs = [("before", one["before"]), ("after", one["after"])]
    out.show(out.facts([(name, out.counts(counts, _ORDER)) for name, counts in pairs]))
    for mark, style, what in (("+", "green", "gained"), ("-", "red", "lost")):
        for sample in one[f"{what}_samples"]:
            _firing(mark, style, sample)
            _why(sample["why"])
        _rest(one[what], one[f"{what}_samples"], one[f"{what}_why"], one["explained"])
    for sample in one["changed_samples"]:
        _firing("~", "yellow", sample)
        for name, values in sample["fields"].items():
            out.show(out.line("     ", out.words(name, "dim"), _value(values["before"]), "→", _value(values["after"])))
    for sample in one["failing_samples"]:
        out.show(out.line("  ", out.words("!", "bold red"), out.words(sample["at"], "dim"), *sample["events"][:3]))
        _why(sample["why"])


def _firing(mark: str, style: str, firing: Mapping[str, Any]) -> None:
    events: Sequence[str] = firing["events"]
    named = events[0] if len(events) == 1 else f"{len(events)} events" if events else "no event"
    group = None if firing["group"] is None else f"key {firing['group']!r}"
    out.show(
        out.line(
            "  ",
            out.words(mark, f"bold {style}"),
            out.words(firing["at"], "dim"),
            named,
            firing["about"],
            group,
            "⇒",
            out.words(firing["pipeline"], "bold cyan"),
        )
    )


def _why(why: Mapping[str, Any]) -> None:
    clause = why["clause"]
    if clause is None:
        out.show(out.line("     ", out.state(why["outcome"]), out.words(why["reason"], "dim")))
        return
    said = f"wants {clause['expected']}, has {clause['actual']}"
    out.show(out.line("     ", out.state(why["outcome"]), out.words(clause["path"], "cyan"), clause["text"]))
    out.show(out.line("       ", out.words(said, "dim")))


def _rest(total: int, shown: Sequence[Any], reasons: Sequence[Mapping[str, Any]], explained: int) -> None:
    if total <= len(shown):
        return
    told = ", ".join(f"{one['n']:,} {one['clause'] or one['outcome']}" for one in reasons)
    first = f" (of the first {explained:,})" if total > explained else ""
    out.show(out.words(f"     … {total - len(shown):,} more; why: {told}{first}", "dim"))


def _value(value: Any) -> str:
    return out.clean(encoder.dumps(value, ensure_ascii=False, default=str))
