"""What people may ask about replays: start one, cancel one. Writes that have happened when the call returns."""

import logging
from collections.abc import Callable
from dataclasses import fields

from sensors.clock import Clock
from sensors.uid import REPLAY, new_uid
from tidegate.replays.changing import EndAsk, EndReplay, ReplayRefused, StartReplay
from tidegate.store.replay_records import Replay, ReplaySpec, ReplayState
from tidegate.store.tx import Store

_log = logging.getLogger("tidegate.replays")


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
        if answer[1]:
            _log.info("replay %s was asked for: %s", uid, _told(spec), extra={"action": "replay_asked"})
        self._wake()
        return answer

    async def cancel(self, uid: str, reason: str) -> Replay | None:
        """Let a replay go no further; return it as it stood before, None when there is no such replay."""
        return await self._store.submit(EndReplay(), EndAsk(uid, ReplayState.CANCELLED, reason))


def _told(spec: ReplaySpec) -> str:
    """Say for the log what is asked for; of lists, how long they are."""
    given = {field.name: getattr(spec, field.name) for field in fields(spec)}
    words = {name: len(value) if isinstance(value, tuple) else value for name, value in given.items()}
    return ", ".join(f"{name} {value}" for name, value in words.items() if value)
