"""Carrying over: what a key has gathered goes on under a changed pattern, as far as it still means the same. Pure.

In flow the pattern under which a key was opened, the one in force, and what the key holds; out flows what of it still
counts. A part that listens, asks and keys as before keeps its events, whatever happened to deadlines, requirements and
other parts; one that does not, and one that is gone, gives them up. Between kinds of patterns nothing is carried over.
"""

from collections.abc import Sequence

import orjson

from triggers.pattern import Count, Join, Part, Pattern, parts_of
from triggers.round import Occurrence, Offer, Round


def carried(before: Pattern, after: Pattern, state: Round) -> Sequence[Occurrence] | None:
    """Return what a key holds that still counts, in order; None when the patterns are of different kinds."""
    match before, after:
        case Join(), Join():
            alike = before.in_order == after.in_order and (before.lateness is None) == (after.lateness is None)
        case Count(), Count():
            alike = (before.lateness is None) == (after.lateness is None)
        case _:
            alike = False
    if not alike:
        return None
    former = {part.name: part for part in parts_of(before)}
    same = {part.name for part in parts_of(after) if part.name in former and _same(former[part.name], part)}
    return [one for one in state.held if one.part in same]


def _same(before: Part, after: Part) -> bool:
    """Say whether a part takes the events that it took, and by the same key, whatever sorts of sequences say so."""
    return _said(before) == _said(after)


def _said(part: Part) -> bytes:
    return orjson.dumps([part.source, part.when, part.by], option=orjson.OPT_SORT_KEYS)


def offer_again(state: Round, one: Occurrence) -> Offer:
    """Return what a key holds as if it came anew; it came when it happened, as far as is known."""
    return Offer(name=state.name, part=one.part, event=one.event, at=one.at, received=one.at, depth=one.depth)
