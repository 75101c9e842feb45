"""The process of a back-test, `python -m tidegate.backtest.worker`: a question comes in, the report goes out."""

import os
import pickle
import sys
import threading

from tidegate.backtest.apart import unpack
from tidegate.backtest.drive import backtest
from tidegate.backtest.history import GivenHistory, StoreHistory
from tidegate.backtest.reading import reading
from tidegate.backtest.values import Ask, Report
from tidegate.store.tx import StoreError

_POLITE = 10  # so that the service, and everyone else, goes first


def main() -> int:
    """Answer one question."""
    os.nice(_POLITE)
    ask, url = unpack(sys.stdin.buffer.read)
    threading.Thread(target=_leave_with_the_asker, daemon=True).start()
    answer: Report | str
    try:
        answer = answered(ask, url)
    except StoreError as error:
        answer = str(error)
    sys.stdout.buffer.write(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
    sys.stdout.buffer.flush()
    return 0


def answered(ask: Ask, url: str) -> Report:
    """Run a back-test over a store, or over the events that came with the question."""
    if ask.events is not None:
        return backtest(ask, GivenHistory(ask.events))
    with reading(url) as read:
        return backtest(ask, StoreHistory(read))


def _leave_with_the_asker() -> None:
    """Wait for the end of the input: nobody wants the answer any more."""
    sys.stdin.buffer.read(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
