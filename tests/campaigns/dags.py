"""`make dags`: thousands of drawn pipelines under the real dispatcher, disturbed, against the model of their ends.

`python -m tests.campaigns.dags [--rounds N] [--kills N] [--seed N]`. Each round draws a pipeline (rules over needs,
conditions, partitions, retries, limits), the fates of all attempts, and what happens meanwhile: holders die, the store
goes away, others take over, somebody cancels; then runs that did not succeed are resumed. Every durable step is checked
as it is written. Then a real service with a fan-out is killed at every step of its way, and its workers under their
slices. Prints what was seen; exits 1 with the round that broke a promise.
"""

import argparse
import asyncio
import logging
import random
import sys
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from pipelines.executor import plan_resume
from pipelines.run import RunState
from tests.campaigns._dag_kills import kills
from tests.support.dag_model import PARAMS, Case, cases, expected, run_succeeds
from tests.support.dag_world import World, disturb

DOINGS = ["time", "time", "kill", "away", "back", "second"]
PAUSES = [0.0, 0.5, 3.0, 20.0]


async def play(case: Case, dice: random.Random, seen: Counter[str]) -> None:
    """Play one round; AssertionError when a promise was broken."""
    stops = any(task.on_failure == "stop" for task in case.definition.tasks)
    world = World(case, survives=dice.random() < 0.4, pauses=[dice.choice(PAUSES) for _ in range(4)])
    doings = [dice.choice(DOINGS) for _ in range(dice.randrange(16))]
    cancelled = dice.random() < 0.2
    try:
        await disturb(world, doings)
        if cancelled:
            world.bench.store.request_cancel(world.run.uid, "drawn")
        await world.to_the_end()
    finally:
        await world.close()
    states = {label: str(task.state) for label, task in world.stored.items()}
    seen.update({"rounds": 1, "task runs": len(states), "attempts": sum(world.effects.values())})
    seen.update({f"runs {world.state}": 1, "deaths": doings.count("kill"), "cancelled": cancelled})
    seen["lost attempts"] += sum(task.lost for task in world.stored.values())
    seen["doubled side effects"] += sum(count > 1 for count in world.effects.values())
    assert all(task.state.final for task in world.stored.values()), states
    if not stops and not cancelled:
        model = expected(case)
        assert states == model, {label: (states.get(label), end) for label, end in model.items()}
        assert world.state is (RunState.SUCCEEDED if run_succeeds(case, model) else RunState.FAILED)
        seen["compared with the model"] += 1
    if world.state is not RunState.SUCCEEDED:
        await resume(world, seen)


async def resume(before: World, seen: Counter[str]) -> None:
    """Resume what did not succeed, with better luck: what succeeded does not run again."""
    definition = before.case.definition
    world = World(Case(definition, {label: [True] * 3 for label in before.case.fates}))
    kept = {label for label, task in before.stored.items() if str(task.state) == "succeeded"}
    world.bench.store.request_cancel(world.run.uid, "only the resumed one")
    world.run = world.bench.add(
        definition=definition,
        params=PARAMS,
        tasks=lambda uid, make: plan_resume(definition, before.stored.values(), uid, make),
    )
    world.stored = dict(world.bench.store.tasks(world.run.uid))
    try:
        world.hire()
        await world.to_the_end()
    finally:
        await world.close()
    assert not {label for label, _ in world.effects} & kept
    seen["resumed"] += 1


def main(arguments: list[str] | None = None) -> int:
    """Play all rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.dags", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3_000)
    parser.add_argument("--kills", type=int, default=14, help="deaths of a real service in the middle of a fan-out")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given_words = parser.parse_args(arguments)
    logging.disable(logging.ERROR)
    seen: Counter[str] = Counter()

    @seed(given_words.seed)
    @settings(
        max_examples=max(1, given_words.rounds),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(cases(on_failure=("continue",)) | cases(on_failure=("stop", "continue")), st.integers(0, 2**32))
    def rounds(case: Case, number: int) -> None:
        try:
            asyncio.run(play(case, random.Random(number), seen))
        except BaseException:
            print(f"seed {given_words.seed}, round {seen['rounds']}, number {number}:\n{case}", file=sys.stderr)
            raise

    started = time.monotonic()
    try:
        if given_words.rounds:
            rounds()
        if given_words.kills:
            seen.update(kills(given_words.kills, given_words.slices, given_words.seed))
    except AssertionError as error:
        print(f"a promise was broken: {error}", file=sys.stderr)
        return 1
    print(f"{time.monotonic() - started:.0f} s, seed {given_words.seed}")
    for name, count in sorted(seen.items()):
        print(f"  {name:26} {count:,}")
    return 1 if seen["doubled side effects"] or seen["called twice under one attempt"] else 0


if __name__ == "__main__":
    sys.exit(main())
