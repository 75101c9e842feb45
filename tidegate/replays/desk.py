"""What people may ask about replays: start one, cancel one. Writes that have happened when the call returns."""

from collections.abc import Callable

from sensors.clock import Clock
from sensors.uid import REPLAY, new_uid
from tidegate.replays.changing import EndAsk, EndReplay, ReplayRefused, StartReplay
from tidegate.store.replay_records import Replay, ReplaySpec, ReplayState
from tidegate.store.tx import Store


class ReplayDesk:
    """Takes requests. `wake` lets those who work at replays look now."""

    def __init__(self, store: Store, clock: Clock, wake: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._wake = wake

    async def start(self, spec: ReplaySpec, request_id: str | None = None) -> tuple[Replay, bool]:
        """Start a replay; False: the same request was made before, and this is its replay. Raises ReplayRefused."""
        uid = new_uid(REPLAY, self._clock.now())
        asked = Replay(uid=uid, request_id=request_id or uid, spec=spec, created_at=0)
        answer = await self._store.submit(StartReplay(), asked)
        if isinstance(answer, ReplayRefused):
            raise answer
        self._wake()
        return answer

    async def cancel(self, uid: str, reason: str) -> Replay | None:
        """Let a replay go no further; return it as it stood before, None when there is no such replay."""
        return await self._store.submit(EndReplay(), EndAsk(uid, ReplayState.CANCELLED, reason))
