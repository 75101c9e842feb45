"""Which files wait until they have stopped changing. Pure: moments are given, in seconds of a monotonic clock."""

from collections.abc import Sequence
from typing import Literal

Token = tuple[int, int]


class Settling:
    """Paths with the version last seen and since when, longest waiting first; at most `limit` of them."""

    def __init__(self, settle: float, limit: int) -> None:
        self._settle = settle
        self._limit = limit
        self._since: dict[str, tuple[Token, float]] = {}

    def __len__(self) -> int:
        return len(self._since)

    def offer(self, path: str, token: Token, now: float) -> Literal["settled", "waiting", "full"]:
        """Note that a path is seen in this version. `settled`: the same for long enough; it is then forgotten."""
        known = self._since.get(path)
        if known is None:
            if self._settle <= 0:
                return "settled"
            if len(self._since) >= self._limit:
                return "full"
        elif known[0] == token:
            if now - known[1] >= self._settle:
                del self._since[path]
                return "settled"
            return "waiting"
        else:
            del self._since[path]
        self._since[path] = (token, now)
        return "waiting"

    def clear(self) -> None:
        """Forget all."""
        self._since.clear()

    def drop(self, path: str) -> None:
        """Forget a path that is gone."""
        self._since.pop(path, None)

    def due(self, now: float, limit: int) -> Sequence[str]:
        """Return up to `limit` paths to look at again, longest waiting first."""
        paths: list[str] = []
        for path, (_, since) in self._since.items():
            if len(paths) >= limit or now - since < self._settle:
                break
            paths.append(path)
        return paths

    def next_due(self) -> float | None:
        """Return when the next path is due; None when none waits."""
        for _, since in self._since.values():
            return since + self._settle
        return None
