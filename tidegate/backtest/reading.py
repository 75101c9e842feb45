"""Reading a store for a back-test: a connection that cannot write, a snapshot per question."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tidegate.backtest.history import Read
from tidegate.store.factory import open_reader
from tidegate.store.reader import Reader
from tidegate.store.tx import StoreError


@contextmanager
def reading(url: str) -> Iterator[Read]:
    """Open a store for reading until the block ends. Raises StoreError."""
    connection = open_reader(url)

    def read(ask: Callable[[Reader], Any]) -> Any:
        try:
            reader = connection.begin()
            try:
                return ask(reader)
            finally:
                connection.end()
        except Exception as error:
            what = "bring it to this version by `tidegate migrate`, or ask again"
            raise StoreError(f"The store cannot be read: {error}; {what}.") from error

    try:
        yield read
    finally:
        connection.close()
