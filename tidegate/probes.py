"""Asks datasets how fresh they are: their probes run in a worker process, never on the loop, never in a transaction.

In flow names of datasets whose timers rang here (from the store's thread); out flow answers, written by the given
write. A dataset is asked once at a time. What goes wrong with asking is an answer as well; while the store is away the
timer, which is durable, asks again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.datasets.asking import shown
from pipelines.errors import TaskFailed
from pipelines.workers.frames import Job
from pipelines.workers.pool import WorkerPool
from sensors.ports import Unavailable
from tidegate.absorb import Facts
from tidegate.freshness import PROBE_WITHIN, Answer, TellAnswers
from tidegate.rules import RulesInForce
from tidegate.store.tx import ItemRefused, Store
from tidegate.watching import WatchedDataset

FUNCTION = "pipelines.checks.standing:probe"
_WORKERS = 2
_log = logging.getLogger("tidegate.probes")

Connections = Callable[[], Mapping[str, Any]]


class Probes:
    """Asks, in at most two workers that start with the first question. `on_facts` is told of what became durable."""

    def __init__(
        self,
        store: Store,
        rules: RulesInForce,
        base: Path,
        connections: Connections,
        on_facts: Callable[[Facts], None],
    ) -> None:
        self._store = store
        self._rules = rules
        self._base = base
        self._connections = connections
        self._on_facts = on_facts
        self._tell: TellAnswers | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: WorkerPool | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}

    def start(self, tell: TellAnswers) -> None:
        """Take questions from now on; answers are written by `tell`."""
        self._tell, self._loop = tell, asyncio.get_running_loop()

    def ask(self, name: str) -> None:
        """Ask a dataset soon. Called from any thread; a transaction that is undone afterwards does no harm."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin, name)

    async def close(self) -> None:
        """Ask no more; what is being asked is given up."""
        self._loop = None
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def _begin(self, name: str) -> None:
        watched = self._rules.current.freshness.datasets.get(name)
        if self._loop is None or watched is None or watched.probe is None or name in self._asking:
            return
        task = self._loop.create_task(self._ask(watched), name=f"probe {name}")
        self._asking[name] = task
        task.add_done_callback(lambda _: self._asking.pop(name, None))

    async def _ask(self, watched: WatchedDataset) -> None:
        answer = await self._answer(watched)
        if answer.error is not None:
            _log.warning(
                "how fresh %s is cannot be told: %s",
                watched.name,
                answer.error,
                extra={"action": "probe_failed", "dataset": watched.name},
            )
        try:
            assert self._tell is not None  # noqa: S101 - questions are taken after `start`
            facts = await self._store.submit(self._tell, answer)
        except (Unavailable, ItemRefused) as error:
            _log.warning(
                "what %s answered could not be kept, it is asked again: %s",
                watched.name,
                error,
                extra={"action": "probe_lost", "dataset": watched.name},
            )
            return
        if facts is not None:
            self._on_facts(facts)

    async def _answer(self, watched: WatchedDataset) -> Answer:
        connection = None
        if watched.connection is not None:
            connection = self._connections().get(watched.connection)
            if connection is None:
                return Answer(watched.name, error=f"there is no connection {watched.connection!r}")
        if self._pool is None:
            self._pool = WorkerPool(_WORKERS, self._base)
        try:
            outcome = await self._pool.run(self._job(watched, connection), _ignored, PROBE_WITHIN)
        except TaskFailed as error:
            return Answer(watched.name, error=str(error))
        if "failed" in outcome.answer:
            return Answer(watched.name, error=str(outcome.answer["failed"]))
        return Answer(watched.name, outcome.answer["output"])

    def _job(self, watched: WatchedDataset, connection: Any) -> Job:
        base = str(self._base.absolute())
        return Job(
            function=FUNCTION,
            base=base,
            args={
                "uri": watched.uri,
                "query": watched.probe,
                "base": base,
                "timezone": watched.rule.timezone,
                "connection": connection,
            },
            run="probe",
            fence=0,
            task=shown(watched.uri),
            partition="",
            attempt=1,
            values=base,
        )


def _ignored(stream: str, line: str) -> None:
    """Keep nothing of what drivers print."""
