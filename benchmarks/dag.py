"""What a task costs beyond its work: a DAG of 1,000 no-op tasks against bare submissions to a ProcessPoolExecutor.

In-process, both with two warm workers on this machine's cores, in turn in the same run. Ours is the real dispatcher
over SQLite on disk with every state durable before it is acted upon, and the `python` engine; the baseline is
`ProcessPoolExecutor.submit` of the same function, all at once, results awaited. `ratio` is time per task ÷ time per
submission, `cpu_ratio` the same of the CPU time of the process that submits. `start_p50_over_bare_ms`: in a chain of
tasks, from one task's call to the next one's, less a bare submission's round trip. `fan_out_…`: 10,000 partitions of
one task, with the growth of resident memory.
"""

import asyncio
import gc
import itertools
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.harness import fdatasync_ms
from benchmarks.noop import noop, now
from config.model import ServiceConfig
from pipelines.dispatcher import Dispatcher
from pipelines.engines.python import PythonEngine
from pipelines.executor import EngineTraits
from pipelines.hands import DispatchSettings
from pipelines.kind import EngineSettings
from pipelines.pipeline import PipelineDef
from pipelines.run import Run, TaskRun
from pipelines.task import TaskDef
from pipelines.testing import SilentObserver
from sensors.clock import SystemClock
from tidegate.rules import RulesInForce, compile_rules
from tidegate.run_store import StoreRuns
from tidegate.runs import Advance, Cancel, Claim, OwnEvents
from tidegate.start import StartAsk, StartRun, UnknownPipeline
from tidegate.store.factory import open_store
from tidegate.store.store import GroupStore

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
WIDE = 100
AT_ONCE = 64


def measure(tasks: int = 1_000, rounds: int = 5, chain: int = 200, partitions: int = 10_000) -> Mapping[str, Any]:
    """Return the ratio and the figures behind it."""
    return uvloop.run(_measure(tasks, rounds, chain, partitions))


async def _measure(tasks: int, rounds: int, chain: int, partitions: int) -> Mapping[str, Any]:
    definitions = {
        "layers": _layers(tasks),
        "chain": _chain(chain),
        "little": _fan(partitions // 10),
        "wide": _fan(partitions),
    }
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        house = await _house(Path(folder), definitions)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(WORKERS, mp_context=context) as bare:
            _submit(bare, tasks)
            await house.run("layers")
            pairs = [(await house.run("layers"), _submit(bare, tasks)) for _ in range(rounds)]
            starts, trips = await _starts(house), _trips(bare, chain)
        await house.run("little")
        little = await _watched(house, "little")
        wide = await _watched(house, "wide")
        sync = fdatasync_ms(Path(folder))
        await house.close()
    ours, bares = [took.wall / tasks for took, _ in pairs], [bare[0] / tasks for _, bare in pairs]
    cpu = statistics.median(took.cpu for took, _ in pairs) / tasks
    bare_cpu = statistics.median(bare[1] for _, bare in pairs) / tasks
    return {
        "ratio": round(statistics.median(one / other for one, other in zip(ours, bares, strict=True)), 2),
        "ratios": [round(one / other, 2) for one, other in zip(ours, bares, strict=True)],
        "task_us": round(statistics.median(ours) * 1e6, 1),
        "bare_us": round(statistics.median(bares) * 1e6, 1),
        "cpu_ratio": round(cpu / bare_cpu, 2),
        "service_cpu_us_per_task": round(cpu * 1e6, 1),
        "bare_cpu_us_per_task": round(bare_cpu * 1e6, 1),
        "start_p50_over_bare_ms": round((statistics.median(starts) - statistics.median(trips)) * 1e3, 2),
        "chain_p50_ms": round(statistics.median(starts) * 1e3, 2),
        "bare_trip_p50_ms": round(statistics.median(trips) * 1e3, 2),
        "fan_out_partitions": partitions,
        "fan_out_us_per_partition": round(wide.wall / partitions * 1e6, 1),
        "fan_out_tenth_us_per_partition": round(little.wall / (partitions // 10) * 1e6, 1),
        "rss_mb": round(wide.peak_mb, 1),
        "rss_growth_mb": round(wide.peak_mb - wide.before_mb, 1),
        "rss_growth_tenth_mb": round(little.peak_mb - little.before_mb, 1),
        "fdatasync_ms": round(sync, 3),
    }


def _python(name: str, function: str = "noop", **more: Any) -> TaskDef:
    options = {"function": f"benchmarks.noop:{function}"}
    return TaskDef(name=name, engine="python", options=options, **more)


def _layers(tasks: int) -> PipelineDef:
    """Return layers of tasks, each needing two of the layer above."""
    made = []
    for n in range(tasks):
        layer, place = divmod(n, WIDE)
        needs = (f"t{n - WIDE}", f"t{(layer - 1) * WIDE + (place + 1) % WIDE}") if layer else ()
        made.append(_python(f"t{n}", needs=needs))
    return PipelineDef(name="layers", tasks=tuple(made), max_tasks=AT_ONCE)


def _chain(length: int) -> PipelineDef:
    tasks = [_python(f"t{n}", "now", needs=(f"t{n - 1}",) if n else ()) for n in range(length)]
    return PipelineDef(name="chain", tasks=tuple(tasks))


def _fan(partitions: int) -> PipelineDef:
    name = f"fan{partitions}"
    wide = _python("wide", partitions=[f"p{n:05}" for n in range(partitions)])
    return PipelineDef(name=name, tasks=(wide, _python("after", needs=("wide",))), max_tasks=AT_ONCE)


def _submit(pool: ProcessPoolExecutor, count: int) -> tuple[float, float]:
    """Return the seconds that bare submissions take, and the CPU seconds of this process meanwhile."""
    started, cpu = time.perf_counter(), _cpu()
    for future in [pool.submit(noop) for _ in range(count)]:
        future.result()
    return time.perf_counter() - started, _cpu() - cpu


def _trips(pool: ProcessPoolExecutor, count: int) -> list[float]:
    """Return the seconds from one call to the next of functions that are submitted one after the other."""
    moments = [pool.submit(now).result() for _ in range(count)]
    return [(after - before) / 1e9 for before, after in itertools.pairwise(moments)]


async def _starts(house: "House") -> list[float]:
    tasks = (await house.run("chain")).tasks
    moments = sorted(int(task.output or 0) for task in tasks)
    return [(after - before) / 1e9 for before, after in itertools.pairwise(moments)]


@dataclass(frozen=True, slots=True)
class Took:
    """What one run took: seconds, CPU seconds of the service process, memory in MB."""

    wall: float
    cpu: float
    tasks: list[TaskRun]
    before_mb: float = 0.0
    peak_mb: float = 0.0


async def _watched(house: "House", pipeline: str) -> Took:
    """Run a pipeline and watch the memory of this process meanwhile."""
    gc.collect()
    before = peak = _rss_mb()
    going = asyncio.get_running_loop().create_task(house.run(pipeline))
    while not going.done():
        await asyncio.sleep(0.05)
        peak = max(peak, _rss_mb())
    took = await going
    return Took(took.wall, took.cpu, [], before, peak)


class House:
    """A store, a dispatcher over it, and the python engine, as the service puts them together."""

    def __init__(self, store: GroupStore, rules: RulesInForce, folder: Path, names: Mapping[str, str]) -> None:
        clock = SystemClock()
        self.store = store
        self._names = names
        self._rules = rules
        self.engine = PythonEngine(
            EngineSettings(
                clock=clock, service="bench", state=folder, base=ROOT, workers=WORKERS, tasks_per_worker=100000
            )
        )
        own = OwnEvents(rules, "bench", "bench")
        traits = {"python": EngineTraits(survives=False, dedupes=False)}
        runs = StoreRuns(store, Claim(rules, lambda: traits, own), Advance(own), Cancel(own), lambda _facts: None)
        engines = {"python": self.engine}
        self.dispatcher = Dispatcher("bench", runs, engines, SilentObserver(), clock, DispatchSettings())

    async def run(self, pipeline: str) -> Took:
        """Run a pipeline to its end; raise unless it succeeded."""
        started, cpu = time.perf_counter(), _cpu()
        answer = await self.store.submit(StartRun(self._rules), StartAsk(pipeline=self._names[pipeline]))
        if isinstance(answer, UnknownPipeline):
            raise answer
        run, _ = answer
        self.dispatcher.wake()
        await self._ended(run)
        took, used = time.perf_counter() - started, _cpu() - cpu
        found, tasks = await self.store.read(lambda reader: (reader.run(run.uid), list(reader.tasks(run.uid))))
        if found is None or str(found.state) != "succeeded":
            raise RuntimeError(f"the run of {pipeline} ended as {found and (found.state, found.error)}")
        return Took(took, used, tasks)

    async def _ended(self, run: Run) -> None:
        while self.dispatcher.active == 0:  # noqa: ASYNC110 - until its claim, for which there is no event to wait on
            await asyncio.sleep(0)
        await self.dispatcher.calm()

    async def close(self) -> None:
        """Stop everything."""
        await self.dispatcher.stop(patience=0)
        await self.engine.close()
        await self.store.close()


async def _house(folder: Path, definitions: Mapping[str, PipelineDef]) -> House:
    store = open_store(f"sqlite:///{folder}/bench.db", shard="bench")
    await store.open()
    pipelines = {definition.name: definition for definition in definitions.values()}
    config = ServiceConfig(name="bench", base=folder, listen="", store="", hash="bench", pipelines=pipelines)
    names = {name: definition.name for name, definition in definitions.items()}
    house = House(store, RulesInForce(compile_rules(config, {})), folder, names)
    house.dispatcher.start()
    return house


def _rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
