"""Example 02 as people run it: a local S3 server, the service as a process, files with and without notifications."""

import asyncio
import sys

import pytest

from tests.support.service import ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


async def test_the_example_does_what_it_says() -> None:
    """It ends with 0, having shown four events, their runs and tables, and the file that was refused."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / "02-object-storage" / "drive.py"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    text = out.decode()

    assert process.returncode == 0, text
    assert "column `price` is missing" in text
    assert "everything as promised" in text
