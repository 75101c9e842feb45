"""Example 04 as people run it: one source fails twice and comes, one is broken, mended, and the run is resumed."""

import asyncio
import sys

import pytest

from tests.support.service import ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


async def test_the_example_does_what_it_says() -> None:
    """It ends with 0, having shown the failed stage, that nothing ran after it, and what the resumed run did."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / "04-six-source-pipeline" / "drive.py"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 150)
    text = " ".join(out.decode().split())

    assert process.returncode == 0, text
    assert "erp resets two connections → and is there with the third attempt" in text
    assert "task fetch ended as failed: 1 of 6 partitions did not succeed: pos" in text
    assert "fetch succeeded · 6 of 6 partitions" in text
    assert "everything as promised" in text
