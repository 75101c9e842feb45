"""HTTP targets: our JSON body as one POST, with the message's id as `Idempotency-Key`.

Any 2xx takes the message. Redirects are not followed. The URL was written by the operator, so private addresses may be
reached (a relay on the same machine is what most people have); link-local and metadata addresses never.
"""

import asyncio
import email.utils
import importlib
import math
import time
from collections.abc import Mapping
from typing import Any

import orjson

from sensors.netguard import NetGuard
from tidegate.alerts.targets import Answer, Discretion, shown

TIMEOUT = 20.0  # seconds, for all of it
_READ = 2_000  # bytes of an answer that are looked at
_EVERYWHERE = ("0.0.0.0/0", "::/0")  # but for what the guard never lets through


class HttpTarget:
    """A URL that takes JSON."""

    def __init__(self, url: str, agent: str, timeout: float = TIMEOUT) -> None:
        self.shown = shown(url)
        self._url = url
        self._agent = agent
        self._timeout = timeout
        self._discretion = Discretion(url)
        self._session: Any = None

    async def send(self, body: Mapping[str, Any]) -> Answer:
        """Post the body."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(body)
        except TimeoutError:
            return Answer(ok=False, error=f"no answer within {self._timeout:g} s")
        except Exception as error:  # noqa: BLE001 - whatever keeps a message from being taken is its answer
            return Answer(ok=False, error=self._discretion.sentence(str(error) or type(error).__name__))

    async def _post(self, body: Mapping[str, Any]) -> Answer:
        outgoing = await asyncio.to_thread(importlib.import_module, "pipelines.outgoing")
        if self._session is None:
            self._session = outgoing.make_session(NetGuard(_EVERYWHERE), self._agent)
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(body["id"])}
        async with self._session.post(
            self._url, data=orjson.dumps(body), headers=headers, allow_redirects=False
        ) as answer:
            if 200 <= answer.status < 300:
                return Answer(ok=True)
            said = (await answer.content.read(_READ)).decode("utf-8", "replace").strip()
            error = f"answered {answer.status}" + (f": {said}" if said else "")
            return Answer(False, self._discretion.sentence(error), _retry_after(answer.headers.get("Retry-After", "")))

    async def close(self) -> None:
        """Close connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _retry_after(text: str) -> float:
    """Return the seconds that a target asks to wait, as a number or a date; 0 where it asks for nothing."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return 0.0
        seconds = moment.timestamp() - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
