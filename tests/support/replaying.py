"""Replays over works: start one as the API does, work at it by hand, and look at what came of it."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from sensors.uid import REPLAY, make_uid
from sensors.w3c import new_root
from tests.support.works import T0, Works
from tidegate.replays.changing import EndAsk, EndReplay, ReplayRefused, StartReplay
from tidegate.replays.step import StepReplay
from tidegate.replays.worker import Holding, Replays
from tidegate.store.reader import Row
from tidegate.store.replay_records import Replay, ReplaySpec, ReplayState

_NUMBERS = itertools.count(1)


def replay_uid(n: int) -> str:
    """Return the uid of a replay by number."""
    return make_uid(REPLAY, T0, n.to_bytes(10, "big"))


class Replaying:
    """One replica that works at replays; made anew after a restart of its works."""

    def __init__(
        self, works: Works, holder: str = "one", lease: float = 0.0, pressure: Callable[[], str] | None = None
    ) -> None:
        self.works = works
        step = StepReplay(works.rules, works.shard, works.fail, new_root)
        self.worker = Replays(
            works.store,
            works.rules,
            step,
            Holding(holder, lease),
            works.clock,
            works.facts.append,
            pressure or (lambda: ""),
        )

    async def ask(self, request: str = "", **spec: Any) -> tuple[Replay, bool] | ReplayRefused:
        """Ask for a replay; `request` is new unless given."""
        uid = replay_uid(next(_NUMBERS))
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()
        }
        asked = Replay(uid=uid, request_id=request or uid, spec=ReplaySpec(**given), created_at=0)
        return await self.works.store.submit(StartReplay(), asked)

    async def start(self, request: str = "", **spec: Any) -> str:
        """Start a replay; return its uid."""
        answer = await self.ask(request, **spec)
        assert not isinstance(answer, ReplayRefused), answer
        return answer[0].uid

    async def step(self) -> float:
        """Make one step of each replay that is due."""
        return await self.worker.work()

    async def finish(self, uid: str, steps: int = 1_000) -> Replay:
        """Step until a replay has ended, letting time pass where it waits."""
        for _ in range(steps):
            replay = await self.replay(uid)
            if replay.state.final:
                return replay
            wait = await self.step()
            if wait > 0:
                await self.works.clock.sleep(wait)
        raise AssertionError(f"replay {uid} has not ended: {await self.replay(uid)}")

    async def run(self, **spec: Any) -> Replay:
        """Start a replay and finish it."""
        return await self.finish(await self.start(**spec))

    async def cancel(self, uid: str) -> Replay | None:
        return await self.works.store.submit(EndReplay(), EndAsk(uid, ReplayState.CANCELLED, "enough"))

    async def replay(self, uid: str) -> Replay:
        found = await self.works.store.read(lambda reader: reader.replay(uid))
        assert found is not None
        return found

    async def replayed(self, uid: str) -> Sequence[Row]:
        """Return the notes of a replay's runs, oldest first."""
        rows, _ = await self.works.store.read(lambda reader: reader.replayed_runs(uid, limit=10_000))
        return list(reversed(rows))
