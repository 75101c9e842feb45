"""The public endpoints, and which of them a path means.

In flows a path as a sender asked for it, out flows the endpoint with what stands in the `{name}`s of its path. Paths
without a `{name}` go first; among the others the one with more plain parts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sensors.event import EMPTY
from sensors.headers import HeaderPolicy
from sensors.push import PushGate
from sensors.sensor import PushSensor
from tidegate.api.cors import Cors
from tidegate.api.throttle import Throttle

_NAME = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One webhook sensor's door: where it stands, what it takes, and the gate behind it.

    `wait` is the longest that a sender may wait for the result of its runs (seconds), `keep_refused` how much of the
    bodies of refused requests operators may see. `shown` chooses the headers of them that may be shown.
    """

    sensor: str
    path: str
    methods: tuple[str, ...]
    gate: PushGate
    receiver: PushSensor
    verified: bool
    max_body: int
    wait: float = 0.0
    throttle: Throttle | None = None
    cors: Cors | None = None
    keep_refused: int = 0
    shown: HeaderPolicy = field(default_factory=lambda: HeaderPolicy(None))


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint that a path means, and what the path says in its `{name}`s."""

    endpoint: Endpoint
    params: Mapping[str, str]


class Routes:
    """Finds endpoints. Made anew when they change."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._plain = {path: Route(endpoint, EMPTY) for path, endpoint in endpoints.items() if "{" not in path}
        patterned = sorted((path for path in endpoints if "{" in path), key=_rank)
        self._patterns = [(_compiled(path), endpoints[path]) for path in patterned]

    def find(self, path: str) -> Route | None:
        """Return what a path means, None when it is not ours."""
        route = self._plain.get(path)
        if route is not None or not self._patterns:
            return route
        for pattern, endpoint in self._patterns:
            found = pattern.fullmatch(path)
            if found is not None:
                return Route(endpoint, found.groupdict())
        return None


def _rank(path: str) -> tuple[Sequence[bool], str]:
    return [bool(_NAME.fullmatch(part)) for part in path.split("/")], path


def _compiled(path: str) -> re.Pattern[str]:
    """Return a pattern in which each `{name}` is one part of a path: no slash, not empty, never ambiguous."""
    parts = [
        f"(?P<{found[1]}>[^/]{{1,1024}})" if (found := _NAME.fullmatch(part)) else re.escape(part)
        for part in path.split("/")
    ]
    return re.compile("/".join(parts))
