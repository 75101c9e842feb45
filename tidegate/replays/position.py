"""How far a replay has come: behind which cause, and within which one it stopped because the rate allowed no more.

In flow and out flow the JSON texts of `Replay.position`. A place is what the selection orders by: a number in a list, a
moment and a uid, a uid. It only grows.
"""

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Position:
    """`after` is the place of the last cause that is done with, None before the first; `within` the uid of the one
    that is under way: what was counted of it is not counted again."""

    after: Any = None
    within: str = ""

    def text(self) -> str:
        """Return it as it is stored."""
        return orjson.dumps([self.after, self.within]).decode()


def read_position(text: str) -> Position:
    """Read what is stored; an empty text is the beginning."""
    if not text:
        return Position()
    after, within = orjson.loads(text)
    return Position(after, within)
