"""Example 03 as people run it: the service as a process, six systems that report, five, and one that comes late."""

import asyncio
import sys

import pytest

from tests.support.service import ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


async def test_the_example_does_what_it_says() -> None:
    """It ends with 0, having shown what a day waits for, who was told that it is overdue, and the late model."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / "03-six-sources" / "drive.py"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    text = " ".join(out.decode().split())

    assert process.returncode == 0, text
    assert "5 of 6 parts are there (crm, erp, web, pos, staff); missing: fx" in text
    assert "missing: fx" in text
    assert "late: refire" in text
    assert "everything as promised" in text
