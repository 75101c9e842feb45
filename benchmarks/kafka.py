"""The kafka sensor against a bare aiokafka loop over the same topic: what do rules, exact counts and durability cost?

Ours is the whole service with its store on disk (`synchronous=FULL`): the sensor of the product in the loop of the
product, positions in the transaction that holds the events. Records are JSON of 1 KiB, one in a hundred matches. Broker
(Apache Kafka) and observer run on one core, the side that is measured on the other; both sides take turns. Rates leave
out the first tenth of each round. Each round is a sensor of its own, so that each reads everything.

`ratio`: a structured filter, whose matches start durable runs. `ratio_when`: a CEL `when` without a filter, asked about
every record, each of which becomes a durable event. `ratio_keep_all`: every record a durable event, one in a hundred
matches. `ratio_10000_triggers`: 10,000 filters ÷ one.
Latency is from the moment a record is due to be sent (open loop, 500/s) to the moment it can be read from the store.
"""

import asyncio
import contextlib
import logging
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import LOAD_CORE, Process, fdatasync_ms, pin_self, service, workspace
from benchmarks.kafka_live import latency
from benchmarks.kafka_rig import EVERY, Bare, Eye, ask, bare, broker, fill
from tests.support.kafka import Kafka

RECORDS, FEW, ROUNDS = 200_000, 30_000, 3
_MANY = 10_000
# One run at a time, so that nearly all wait: durable, and no load of their own.
_PIPELINES = {"held": {"concurrency": 1, "tasks": {"wait": {"engine": "command", "argv": ["sleep", "5"]}}}}


def measure(records: int = RECORDS, few: int = FEW, rounds: int = ROUNDS) -> Mapping[str, Any]:
    """Return ratios (ours ÷ bare, pair by pair, medians), latency, memory, and the raw figures."""
    pin_self(LOAD_CORE)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of our producer: it tries again
    with workspace() as folder, broker() as kafka, contextlib.ExitStack() as stack:
        asyncio.run(fill(kafka, "many", records))
        asyncio.run(fill(kafka, "few", few))
        bares = {topic: stack.enter_context(bare(kafka, topic)) for topic in ("many", "few")}
        sides = {name: stack.enter_context(_side(folder, kafka, name, rounds)) for name in _KINDS}
        warm = sides["filter"]
        _pair(warm, bares, records, few, 0)
        rss = [warm.process.rss_mb()]
        pairs: dict[str, list[Mapping[str, float]]] = {name: [] for name in sides}
        for n in range(1, rounds + 1):
            for name, side in sides.items():
                pairs[name].append(_pair(side, bares, records, few, n))
            rss.append(warm.process.rss_mb())
        matched = warm.eye.events(f"r{rounds}")
        if matched != (records + EVERY - 1) // EVERY:
            raise RuntimeError(f"{matched} durable events of {records} records, one in {EVERY} of which matches")
        memory = {name: round(side.process.rss_mb(), 1) for name, side in sides.items()}
        fewest = pairs["filter"], pairs["triggers"]
        found = {
            "ratio": _ratio(pairs["filter"]),
            "ratio_when": _ratio(pairs["when"]),
            "ratio_keep_all": _ratio(pairs["keep_all"]),
            "ratio_10000_triggers": round(
                statistics.median(many["per_s"] / one["per_s"] for one, many in zip(*fewest, strict=True)), 3
            ),
            "per_s": round(statistics.median(pair["per_s"] for pair in pairs["filter"])),
            "records": records,
            "records_when_and_keep_all": few,
            "per_s_all": {name: [round(pair["per_s"]) for pair in of] for name, of in pairs.items()},
            "bare_per_s_all": {name: [round(pair["bare_per_s"]) for pair in of] for name, of in pairs.items()},
            "cpu_us_per_record": {name: round(min(pair["cpu_us"] for pair in of), 2) for name, of in pairs.items()},
            "bare_cpu_us_per_record": round(min(pair["bare_cpu_us"] for pair in pairs["filter"]), 2),
            "rss_mb": memory,
            "rss_growth_mb": round(rss[-1] - rss[0], 1),
            "rss_mb_by_round": [round(mb, 1) for mb in rss],
        }
        for side in sides.values():
            side.eye.close()
        stack.close()
        return {**found, **latency(folder, kafka), "fdatasync_ms": round(fdatasync_ms(folder), 3)}


@dataclass(frozen=True, slots=True)
class Side:
    """A running service that reads a topic once per sensor: one for each round, and `r0` to warm up."""

    process: Process
    eye: Eye
    topic: str


_KINDS = ("filter", "triggers", "when", "keep_all")


@contextlib.contextmanager
def _side(folder: Path, kafka: Kafka, name: str, rounds: int) -> Any:
    topic = "many" if name in ("filter", "triggers") else "few"
    names = [f"r{n}" for n in range(0 if name == "filter" else 1, rounds + 1)]
    sensor = {
        "kind": "kafka",
        "brokers": [kafka.bootstrap],
        "topics": [topic],
        "start": "beginning",
        "paused": "hold",
        "keep": "all" if name == "keep_all" else "matched",
    }
    config = {
        "sensors": dict.fromkeys(names, sensor),
        "triggers": _triggers(name, names),
        "pipelines": _PIPELINES,
    }
    with service(folder, name.replace("_", "-"), config) as process:
        yield Side(process, Eye(folder / name.replace("_", "-"), topic), topic)


def _triggers(name: str, sensors: list[str]) -> Mapping[str, Any]:
    def on(kind: str) -> list[Mapping[str, Any]]:
        return [{"sensor": sensor, "filter": {"exact": {"data.kind": kind}}} for sensor in sensors]

    run = {"pipeline": "held"}
    if name == "when":
        return {"hot": {"on": [{"sensor": each} for each in sensors], "when": 'event.data.kind == "hot"', "run": run}}
    others = _MANY - 1 if name == "triggers" else 0
    return {
        "hot": {"on": on("hot"), "run": run},
        **{f"t{n}": {"on": on(f"kind-{n}"), "run": run} for n in range(others)},
    }


def _pair(side: Side, bares: Mapping[str, Bare], records: int, few: int, n: int) -> Mapping[str, float]:
    """Read everything once by ours and once by the bare loop, in an order that changes from round to round."""
    count = records if side.topic == "many" else few
    told: dict[str, Any] = {}

    def theirs() -> None:
        told.update(bares[side.topic].read(count))

    if n % 2:
        theirs()
    cpu = side.process.cpu_s()
    ask(side.process, f"r{n}", "resume")
    per_s = side.eye.rate(f"r{n}", count)
    cpu = side.process.cpu_s() - cpu
    ask(side.process, f"r{n}", "pause")  # so that memory is that of one sensor
    if not n % 2:
        theirs()
    return {
        "per_s": per_s,
        "cpu_us": cpu / count * 1e6,
        "bare_per_s": told["per_s"],
        "bare_cpu_us": told["cpu_s"] / count * 1e6,
    }


def _ratio(pairs: list[Mapping[str, float]]) -> float:
    return round(statistics.median(pair["per_s"] / pair["bare_per_s"] for pair in pairs), 3)
