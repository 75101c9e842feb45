"""Records the datasets that a task declares and its engine does not tell of: `outputs` and `inputs` of any engine.

Stands before an engine and changes nothing of its work. When an attempt has succeeded, each declared dataset that the
engine has not told of becomes a write, or a read, of the run. What lies there (rows, columns, version) is looked at in
a worker, where drivers may be imported; a look that fails, or takes too long, leaves the figures empty and a line in
the log, for the work is done.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pipelines.datasets.catalog import Bound, Catalog
from pipelines.ports import Engine, TaskContext, TaskResult
from pipelines.run import DatasetWrite
from sensors.clock import Clock

PATIENCE: Final = 30.0  # seconds for all looks of an attempt

Look = Callable[[Sequence[Mapping[str, Any]]], Awaitable[Sequence[Mapping[str, Any] | None]]]
"""Looks at datasets (`uri`, `connection`); answers rows, bytes, schema, version of each, or None for nothing there."""


class Recording:
    """An engine whose declared datasets are recorded."""

    def __init__(self, engine: Engine, catalog: Catalog, look: Look, clock: Clock) -> None:
        self._engine = engine
        self._catalog = catalog
        self._look = look
        self._clock = clock
        self.survives = engine.survives
        self.dedupes = engine.dedupes
        self.poll_every = engine.poll_every

    async def open(self) -> None:
        await self._engine.open()

    async def start(self, context: TaskContext) -> str:
        return await self._engine.start(context)

    async def find(self, context: TaskContext) -> str | None:
        return await self._engine.find(context)

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        result = await self._engine.poll(context, handle)
        if result is None or not (context.task.outputs or context.task.inputs):
            return result
        told = await self._declared(context, result)
        return replace(result, datasets=(*told, *result.datasets)) if told else result

    async def cancel(self, context: TaskContext, handle: str) -> None:
        await self._engine.cancel(context, handle)

    async def close(self) -> None:
        await self._engine.close()

    async def _declared(self, context: TaskContext, result: TaskResult) -> list[DatasetWrite]:
        """Return what the declared datasets are recorded as, but for those that the engine has told of."""
        known = {(write.namespace, write.name, write.mode == "read") for write in result.datasets}
        wanted: list[tuple[Bound, bool]] = []
        for reference, read in (
            *((one, True) for one in context.task.inputs.values()),
            *((one, False) for one in context.task.outputs),
        ):
            try:
                bound = self._catalog.bind(reference)
            except ValueError as error:
                context.log("engine", f"the dataset {reference!r} is not recorded: {error}")
                continue
            key = (bound.target.namespace, bound.target.name, read)
            if key not in known:
                known.add(key)
                wanted.append((bound, read))
        if not wanted:
            return []
        seen = await self._seen(context, [bound for bound, _ in wanted])
        at, partition = self._clock.now(), context.task_run.partition or context.run.partition or ""
        return [
            DatasetWrite(
                namespace=bound.target.namespace,
                name=bound.target.name,
                task=context.task.name,
                at=at,
                mode="read" if read else "write",
                dataset=bound.name,
                partition="" if read else partition,
                rows=look.get("rows"),
                bytes=look.get("bytes"),
                schema=tuple((name, kind) for name, kind in look.get("schema") or ()),
                version=look.get("version"),
            )
            for (bound, read), look in zip(wanted, seen, strict=True)
        ]

    async def _seen(self, context: TaskContext, bounds: Sequence[Bound]) -> Sequence[Mapping[str, Any]]:
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._look([bound.plain() for bound in bounds])
        except Exception as error:  # noqa: BLE001 - whatever a look raises, the work is done
            said = str(error) or type(error).__name__
            context.log("engine", f"the datasets of {context.task.name!r} could not be looked at: {said}")
            return [{}] * len(bounds)
        return [look or {} for look in found]
