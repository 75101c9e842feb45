"""Targets of apprise: mail, chat, pagers. It blocks, so each attempt has a thread of its own, with a limit of time.

apprise says only whether a message went out; why not stands in its log, which is read here and goes nowhere else, since
it may quote the URL. An attempt that hangs is left behind, and the next one waits until it is gone.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Self

from tidegate.alerts.targets import Answer, Discretion, shown

TIMEOUT = 25.0  # seconds; above the limits that apprise sets its sockets
MISSING = "it needs the package apprise: install `tidegate[alerts]`"
_ATTEMPT: ContextVar["_Heard | None"] = ContextVar("attempt", default=None)
_TYPES = {"resolved": "success", "test": "info"}


class AppriseTarget:
    """A URL that apprise knows."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self.shown = shown(url)
        self._url = url
        self._timeout = timeout
        self._discretion = Discretion(url)
        self._thread: threading.Thread | None = None

    async def send(self, body: Mapping[str, Any]) -> Answer:
        """Send title and text."""
        if self._thread is not None and self._thread.is_alive():
            return Answer(ok=False, error="the attempt before still hangs")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def settle(answer: Answer) -> None:
            if not future.done():
                future.set_result(answer)

        def work() -> None:
            answer = self._notify(body)
            try:
                loop.call_soon_threadsafe(settle, answer)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        self._thread = threading.Thread(target=work, name=f"alert to {self.shown}", daemon=True)
        self._thread.start()
        try:
            return await asyncio.wait_for(future, self._timeout)
        except TimeoutError:
            return Answer(ok=False, error=f"no answer within {self._timeout:g} s")

    async def close(self) -> None:
        """Nothing is kept open."""

    def _notify(self, body: Mapping[str, Any]) -> Answer:
        try:
            import apprise
        except ModuleNotFoundError as error:
            if error.name != "apprise":
                raise
            return Answer(ok=False, error=MISSING)
        try:
            with _Heard() as heard:
                service = apprise.Apprise.instantiate(self._url, suppress_exceptions=True)
                if service is None:
                    return Answer(ok=False, error=f"apprise knows no service for {self.shown}: {self._said(heard)}")
                sender = apprise.Apprise()
                sender.add(service)
                kind = _TYPES.get(body["what"], "failure" if body["severity"] == "error" else "warning")
                if sender.notify(title=body["title"], body=body["text"], notify_type=kind, body_format="text"):
                    return Answer(ok=True)
                return Answer(ok=False, error=self._said(heard))
        except Exception as error:  # noqa: BLE001 - whatever keeps a message from being taken is its answer
            return Answer(ok=False, error=self._discretion.sentence(str(error) or type(error).__name__))

    def _said(self, heard: "_Heard") -> str:
        return self._discretion.sentence("; ".join(heard.lines[-3:]) or "it was not taken; apprise does not say why")


class _Heard(logging.Handler):
    """What apprise logs about one attempt, in whatever threads it works: they inherit the context."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        _ATTEMPT.set(self)
        logger = logging.getLogger("apprise")
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if _ATTEMPT.get() is self and (record.levelno >= logging.WARNING or "xception" in said or "rror" in said):
            self.lines.append(said)
