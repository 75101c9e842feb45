"""`make webhooks`: mutated requests at a running service, then twice the load it can take.

`python -m tests.campaigns.webhooks [--requests N] [--seconds S] [--seed K]`. The first part sends N requests, most of
them changed, to an endpoint for each scheme: no answer is a fault of ours, answers come in time, memory does not grow,
and what was accepted is in the store. The second part measures what the service takes in, sends twice as much for S
seconds at fixed moments, and looks at what becomes of it. Prints figures; exits 1 when a promise was broken.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import LOAD_CORE, Process, pin_self, quantile, service, workspace
from tests.campaigns._flood import Flood, flood, missing
from tests.campaigns._mutants import ENVIRON, Senders, configuration
from tests.campaigns._wire import Answer, Wire

READ_TIMEOUT = 1.0  # seconds in which a request must have come whole
SLOWEST = 10.0  # seconds within which every answer must have come
GROWTH = 24.0  # MB that memory may grow after the first fifth of the requests
_CONNECTIONS = 24
_OURS = frozenset((-1, 500, 501, 502, 503, 504, 505))


@dataclass
class Fuzzed:
    """What became of mutated requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted: set[str] = field(default_factory=set)
    faults: list[tuple[bytes, Answer]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    lost: int = 0
    seconds: float = 0.0

    def broken(self) -> list[str]:
        """Return the promises that were broken."""
        said = []
        if self.faults:
            request, answer = self.faults[0]
            said.append(
                f"{len(self.faults)} answers were faults of ours, the first {answer.status} to {request[:600]!r}"
            )
        if self.lost:
            said.append(f"{self.lost} accepted events are not in the store")
        if self.times and max(self.times) > SLOWEST:
            said.append(f"an answer took {max(self.times):.1f} s")
        if self.grown > GROWTH:
            said.append(f"memory grew by {self.grown:.1f} MB")
        if not any(200 <= status < 300 for status in self.statuses) or not self.statuses.get(401):
            said.append(f"nothing was accepted, or nothing refused: {dict(self.statuses)}")
        return said

    @property
    def grown(self) -> float:
        """Return by how many MB memory grew after warming up."""
        warm = self.rss[max(0, len(self.rss) // 5 - 1) :]
        return max(warm) - warm[0] if warm else 0.0


async def fuzz(process: Process, requests: int, seed: int) -> Fuzzed:
    """Send mutated requests over several connections."""
    host, port = process.url.removeprefix("http://").split(":")
    made, found = Senders(seed), Fuzzed()
    left = iter(range(requests))
    started = time.monotonic()

    async def one_sender() -> None:
        wire = Wire(host, int(port), SLOWEST + 5)
        for n in left:
            mutant = made.next()
            answer = await wire.ask(mutant.data, hang_up=mutant.hang_up, alone=not mutant.framed)
            found.statuses[answer.status] += 1
            if not mutant.hang_up:
                found.times.append(answer.seconds)
            if answer.status in _OURS:
                found.faults.append((mutant.data, answer))
            elif answer.status == 202 and answer.body.startswith(b'{"events"'):
                found.accepted.update(one["event"] for one in json.loads(answer.body)["events"])
            if n % max(1, requests // 50) == 0:
                found.rss.append(process.rss_mb())
        wire.close()

    await asyncio.gather(*(one_sender() for _ in range(_CONNECTIONS)))
    found.seconds = time.monotonic() - started
    if process.popen.poll() is not None:
        raise RuntimeError(f"the service ended: {process.log.read_text()[-3000:]}")
    return found


def fuzzed(folder: Path, requests: int, seed: int) -> Fuzzed:
    """Run the first part."""
    limits = {"read_timeout": f"{READ_TIMEOUT:g}s", "body": "16KiB"}
    with service(folder, "fuzz", {**configuration(), "service": {"limits": limits}}) as process:
        found = asyncio.run(fuzz(process, requests, seed))
        found.lost = missing(folder / "fuzz" / "tidegate.db", found.accepted)
    return found


def tell_fuzzed(found: Fuzzed) -> None:
    """Print what became of mutated requests."""
    times = found.times or [0.0]
    print(
        f"webhooks fuzz: {sum(found.statuses.values())} requests in {found.seconds:.0f} s, statuses "
        f"{dict(sorted(found.statuses.items()))}, accepted events {len(found.accepted)}, lost {found.lost}, "
        f"answers p50 {quantile(times, 0.5) * 1e3:.1f} ms, p99 {quantile(times, 0.99) * 1e3:.1f} ms, "
        f"longest {max(times) * 1e3:.0f} ms, memory {found.rss[0]:.0f} MB, grown by {found.grown:.1f} MB",
        flush=True,
    )


def tell_flooded(found: Flood) -> None:
    """Print what became of the load."""
    print(
        f"webhooks load: capacity {found.capacity:.0f}/s, offered {found.offered:.0f}/s for {found.seconds:.0f} s: "
        f"accepted {found.accepted} ({found.accepted / found.seconds:.0f}/s), refused {found.refused} to come again, "
        f"unanswered {found.unanswered}, lost {found.lost}, accepted p50 {found.p50 * 1e3:.0f} ms, "
        f"p99 {found.p99 * 1e3:.0f} ms, refused p99 {found.refused_p99 * 1e3:.0f} ms, queue {found.backlog:.0f}, "
        f"memory grown by {found.grown:.1f} MB, recovered after {found.recovery:.2f} s, sent late {found.late}",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="webhooks", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000, help="mutated requests")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the load lasts")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    broken: list[str] = []
    os.environ.update(ENVIRON)
    pin_self(LOAD_CORE)
    with workspace() as folder:
        if options.requests:
            found = fuzzed(folder, options.requests, options.seed)
            tell_fuzzed(found)
            broken += found.broken()
        if options.seconds:
            load = flood(folder, options.seconds)
            tell_flooded(load)
            broken += load.broken()
    print("\n".join(broken) if broken else "no promise broken: no fault of ours, nothing accepted was lost")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
