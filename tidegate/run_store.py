"""`pipelines.ports.RunStore` over the store: what the dispatcher sees of durable runs.

Keeps the runs that this process holds, so that a step need not read its run again. Facts of own events go to
`on_facts`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.ports import Claimed, Renewal
from pipelines.run import LogLine, Run, RunStep
from tidegate.absorb import Facts
from tidegate.event_view import event_view
from tidegate.runs import Advance, Cancel, CancelAsk, Claim, Renew, RenewAsk
from tidegate.store.records import ClaimAsk
from tidegate.store.tx import Store, Tx

EVENTS_SEEN = 5_000
_LONG_AGO = -86_400_000_000


class InsertLogs:
    """Keeps log lines."""

    name = "logs"

    def __call__(self, tx: Tx, items: Sequence[Sequence[LogLine]]) -> Sequence[None]:
        """Insert the lines of all callers at once."""
        tx.insert_logs([line for lines in items for line in lines])
        return [None] * len(items)


class StoreRuns:
    """Durable runs for one dispatcher."""

    def __init__(
        self, store: Store, claim: Claim, advance: Advance, cancel: Cancel, on_facts: Callable[[Facts], None]
    ) -> None:
        self._store = store
        self._claim = claim
        self._advance = advance
        self._cancel = cancel
        self._renew = Renew()
        self._logs = InsertLogs()
        self._on_facts = on_facts
        self._held: dict[str, Run] = {}

    async def claim(self, holder: str, limit: int, lease: float, grace: float) -> Sequence[Claimed]:
        """Claim runs; their first tasks' start intentions are durable when this returns."""
        answer = await self._store.submit(self._claim, ClaimAsk(holder, limit, int(lease * 1e6), int(grace * 1e6)))
        self._tell(answer.facts)
        for claimed in answer.runs:
            self._held[claimed.run.uid] = claimed.run
        return answer.runs

    async def renew(self, holder: str, runs: Sequence[str], lease: float) -> Renewal:
        """Extend leases."""
        renewal = await self._store.submit(self._renew, RenewAsk(holder, runs, int(lease * 1e6)))
        for uid in renewal.lost:
            self._held.pop(uid, None)
        return renewal

    async def release(self, holder: str, runs: Sequence[str]) -> None:
        """Give up leases: they end so long ago that anyone may claim the runs at once."""
        await self._store.submit(self._renew, RenewAsk(holder, runs, _LONG_AGO))
        for uid in runs:
            self._held.pop(uid, None)

    async def advance(self, step: RunStep) -> bool:
        """Apply one step of a run that this process claimed."""
        run = self._held.get(step.run)
        if run is None or run.fence != step.fence:  # taken over, perhaps by this very process: its claim stays
            return False
        answer = await self._store.submit(self._advance, (step, run), 512)
        self._tell(answer.facts)
        ended = not answer.applied or (step.state is not None and step.state.final)
        if ended and self._held.get(step.run) is run:
            del self._held[step.run]
        return answer.applied

    async def parameters(self, run: Run) -> Mapping[str, Any]:
        """Return `events` of a run as expressions see them."""
        events = await self._store.read(lambda reader: reader.events_of_run(run.uid, EVENTS_SEEN))
        return {"events": [event_view(event) for event in events]}

    async def log(self, lines: Sequence[LogLine]) -> None:
        """Keep log lines."""
        await self._store.submit(self._logs, tuple(lines), sum(len(line.text) + 64 for line in lines))

    async def request_cancel(self, run: str, reason: str) -> str | None:
        """Ask a run to stop; return its new state, None when there is no such run."""
        state, facts = await self._store.submit(self._cancel, CancelAsk(run, reason))
        self._tell(facts)
        return state

    def _tell(self, facts: Facts | None) -> None:
        if facts is not None:
            self._on_facts(facts)
