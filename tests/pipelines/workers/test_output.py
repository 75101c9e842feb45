import asyncio
import gc
import os
from collections.abc import Callable
from itertools import pairwise

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from pipelines.workers.output import MAX_PIECE, LinePipe, read_lines


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[a:b] for a, b in pairwise(edges)]


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1)),
    st.lists(st.integers(0, 500)),
)
def test_lines_do_not_depend_on_how_bytes_arrive(lines: list[str], cuts: list[int]) -> None:
    """However the pipe cuts the bytes, the same lines come out, in order."""
    got: list[str] = []
    pipe = LinePipe(got.append)
    for part in pieces("".join(f"{line}\n" for line in lines).encode(), cuts):
        pipe.data_received(part)
    pipe.connection_lost(None)

    assert got == lines


@given(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1), st.integers(1, 4))
def test_long_lines_are_cut_between_characters(text: str, times: int) -> None:
    """Long lines come in pieces of bounded size that add up to the line."""
    got: list[str] = []
    pipe = LinePipe(got.append)
    line = text * (times * MAX_PIECE // len(text.encode()) + 1)
    pipe.data_received(line.encode())
    pipe.data_received(b"\n")

    assert "".join(got) == line
    assert all(len(piece.encode()) <= MAX_PIECE for piece in got)


@given(st.binary(max_size=200), st.lists(st.integers(0, 250)))
def test_the_mark_is_found_and_never_shown(noise: bytes, cuts: list[int]) -> None:
    """A mark ends the output wherever the pipe cuts it; what stands before it on its line is a line."""
    got: list[str] = []
    mark = b"\x00secret-mark"
    noise = noise.replace(mark, b"")
    pipe = LinePipe(got.append)
    pipe.expect(mark)
    expected = [pipe.expects]
    for part in pieces(noise + mark + b"\n", cuts):
        pipe.data_received(part)

    assert [*expected, pipe.expects] == [True, False]
    assert not any("secret-mark" in line for line in got)


async def test_the_mark_is_waited_for() -> None:
    """Whoever waits for the mark goes on when it comes, and at once when it has come."""
    pipe = LinePipe()
    pipe.expect(b"\x00m")
    waiting = asyncio.ensure_future(pipe.mark_came())
    await asyncio.sleep(0)
    assert not waiting.done()
    pipe.data_received(b"last\x00m\n")
    await waiting
    await pipe.mark_came()


def test_without_a_mark_the_last_line_is_ended() -> None:
    """Where all was read before the answer, what stands without a line break is a line, and no mark is waited for."""
    got: list[str] = []
    pipe = LinePipe(got.append)
    pipe.expect(b"\x00m")
    pipe.data_received(b"one\ntwo")
    pipe.end()
    pipe.end()
    assert got == ["one", "two"]
    assert not pipe.expects


@pytest.mark.parametrize("run", [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")])
def test_a_cancelled_start_closes_its_pipe_once_and_nothing_else(run: Callable[..., None]) -> None:
    """Cancelled while the loop takes the pipe over, reading ends as cancelled and closes no descriptor of others."""

    async def cancel_half_way() -> None:
        reading, writing = os.pipe()
        starting = asyncio.ensure_future(read_lines(reading))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        while not _broken(writing):
            await asyncio.sleep(0)
        os.close(writing)
        taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]  # among them the pipe's old number
        gc.collect()
        for descriptor in taken:
            os.fstat(descriptor)
            os.close(descriptor)

    run(cancel_half_way())


def _broken(writing: int) -> bool:
    """Say whether nobody holds the other end any more."""
    try:
        os.write(writing, b"x")
    except BrokenPipeError:
        return True
    return False
