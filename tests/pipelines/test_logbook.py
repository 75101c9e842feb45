import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipelines.executor import EngineTraits
from pipelines.logbook import MAX_CHARS, MAX_LINE, MAX_LINES, LogBook, storable
from pipelines.memory_runs import MemoryRuns
from pipelines.run import LogLine
from sensors.event import storable_text
from sensors.ports import Unavailable
from tests.support.manual_clock import ManualClock


class Store(MemoryRuns):
    def __init__(self) -> None:
        super().__init__(ManualClock(), {"e": EngineTraits(survives=False, dedupes=False)})
        self.away = False
        self.gate: asyncio.Event | None = None

    async def log(self, lines: Sequence[LogLine]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise Unavailable("away")
        await super().log(lines)


async def test_a_flood_is_cut_visibly_and_counted_exactly() -> None:
    """The first lines stay, a line says that output is cut, the last line says how much was left out."""
    book = LogBook(Store(), ManualClock())
    log = book.open("run", "a", 1)
    for n in range(MAX_LINES + 123):
        log.add("stdout", str(n))
    lines = await log.take()

    assert [line.text for line in lines[:MAX_LINES]] == [str(n) for n in range(MAX_LINES)]
    assert lines[MAX_LINES].text == "too much output: from here on lines are counted, not kept"
    assert lines[-1].text == "123 lines (615 characters) of output were left out"
    assert len(lines) == MAX_LINES + 2


async def test_long_lines_and_much_text_are_bounded() -> None:
    """A line is cut with its true length named; the characters of an attempt are bounded too."""
    book = LogBook(Store(), ManualClock())
    log = book.open("run", "a", 1)
    for _ in range(1000):
        log.add("stdout", "x" * 1_000_000)
    lines = await log.take()

    assert lines[0].text == "x" * MAX_LINE + " [cut: the line had 1000000 characters]"
    assert sum(len(line.text) for line in lines) < MAX_CHARS + 1000
    assert book.waiting_chars == 0


async def test_lines_wait_for_a_store_that_is_away() -> None:
    """What could not be written is written later, in order and once."""
    store = Store()
    book = LogBook(store, ManualClock())
    log = book.open("run", "a", 1)
    log.add("stdout", "1")
    store.away = True
    await book.flush()
    log.add("stdout", "2")
    store.away = False
    await book.flush()

    assert [line.text for line in store.logs] == ["1", "2"]
    assert list(await log.take()) == []


async def test_the_end_of_an_attempt_waits_for_lines_that_are_being_written() -> None:
    """The lines that go with the last step never overtake earlier ones."""
    store = Store()
    store.gate = asyncio.Event()
    book = LogBook(store, ManualClock())
    log = book.open("run", "a", 1)
    log.add("stdout", "1")
    flushing = asyncio.create_task(book.flush())
    await asyncio.sleep(0)
    log.add("stdout", "2")
    taking = asyncio.create_task(log.take())
    await asyncio.sleep(0)
    assert not taking.done()
    store.gate.set()
    await flushing

    assert [line.text for line in [*store.logs, *await taking]] == ["1", "2"]


@given(st.text(st.characters()))
def test_any_text_becomes_storable(text: str) -> None:
    """NUL and lone surrogates are replaced, everything else stays."""
    assert storable_text(storable(text))
    if storable_text(text):
        assert storable(text) == text
