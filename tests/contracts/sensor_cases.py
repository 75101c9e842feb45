"""How to try each sensor kind: options, what makes its source have something new, and requests for push kinds."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensors.sensor import Request
from sensors.testing import make_request


@dataclass(frozen=True)
class Case:
    """One way to try a kind. `options` and `stimulate` get a folder of the test's own."""

    options: Callable[[Path], dict[str, Any]]
    stimulate: Callable[[Path], Awaitable[None]] | None = None
    requests: Sequence[Request] = field(default_factory=tuple)
    bad: Sequence[dict[str, Any]] = ()  # option sets that must be refused


async def _drop(folder: Path) -> None:
    (folder / "a.csv").write_text("id\n1\n")


def _signed(body: bytes, delivery: str) -> Request:
    signature = "sha256=" + hmac.digest(b"secret", body, "sha256").hex()
    headers = {"x-hub-signature-256": signature, "x-github-delivery": delivery, "x-github-event": "push"}
    return make_request(body, headers)


# A kind without a case fails the suite: none may come without a test of its contract.
CASES: dict[str, Case] = {
    "webhook": Case(
        options=lambda _: {"path": "/hooks/test", "verify": {"scheme": "github", "secret": "secret"}},
        requests=(_signed(b'{"n": 1}', "d-1"), _signed(b'{"n": 2}', "d-2"), _signed(b'{"n": 1}', "d-1")),
        bad=({}, {"path": "/x"}, {"path": "/x", "verify": {"scheme": "github"}}),
    ),
    "files": Case(
        options=lambda folder: {"path": str(folder), "start": "beginning", "settle": "50ms"},
        stimulate=_drop,
        bad=({}, {"path": "x"}),
    ),
}
