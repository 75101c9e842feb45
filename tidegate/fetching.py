"""GET for verifiers: the keys of an issuer, the certificates of SNS. Small answers, from public https addresses alone.

In flow addresses, out flow bytes. The address is checked when the socket is made (see `sensors.netguard`), no
redirect is followed, and an answer has a cap and a time. The session is made with the first question.
"""

import asyncio
import importlib
import ssl
from typing import TYPE_CHECKING, Final

from sensors.netguard import NetGuard
from sensors.ports import Unavailable

if TYPE_CHECKING:
    import aiohttp

_SECONDS: Final = 5.0
_MOST: Final = 256 * 1024  # bytes of an answer
_AGAIN: Final = 10.0  # seconds after which a sender may try again


class Fetcher:
    """Fetches over one session, for all sensors of a process. All calls belong to one loop."""

    def __init__(self, allow: tuple[str, ...], agent: str, trust: ssl.SSLContext | None = None) -> None:
        """`trust` says whose certificates count; None: those that the system trusts."""
        self._trust: ssl.SSLContext | bool = trust if trust is not None else True
        self._guard = NetGuard(allow)
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, url: str) -> bytes:
        """Return what is at an https address.

        Raises Unavailable when it cannot be had now, LookupError when its host says that there is nothing.
        """
        if not url.startswith("https://"):
            raise Unavailable(f"{url} does not begin with https://", _AGAIN)
        session = await self._open()
        import aiohttp

        try:
            timeout = aiohttp.ClientTimeout(total=_SECONDS)
            async with session.get(url, allow_redirects=False, timeout=timeout, ssl=self._trust) as answer:
                if 400 <= answer.status < 500 and answer.status not in (408, 429):
                    raise LookupError(f"{url} was answered {answer.status}")
                if answer.status != 200:
                    raise Unavailable(f"{url} was answered {answer.status}", _AGAIN)
                parts: list[bytes] = []
                size = 0
                async for part in answer.content.iter_chunked(16 * 1024):
                    size += len(part)
                    if size > _MOST:
                        raise Unavailable(f"the answer of {url} has more than {_MOST} bytes", _AGAIN)
                    parts.append(part)
                return b"".join(parts)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{url} cannot be reached: {str(error) or type(error).__name__}", _AGAIN) from error

    async def close(self) -> None:
        """Let go."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self) -> "aiohttp.ClientSession":
        async with self._opening:
            if self._session is None:
                await asyncio.to_thread(importlib.import_module, "pipelines.outgoing")  # slow: off the loop
                from pipelines.outgoing import make_session

                self._session = make_session(self._guard, self._agent)
            return self._session
