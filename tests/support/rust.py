"""Programs in Rust that tests run: built once into `build/`, from the crates' registry."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def built(project: Path, name: str) -> Path:
    """Build a Cargo project; return its program. Fails the test in one sentence where there is no Rust."""
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo/bin"))
    if cargo is None:
        pytest.fail("cargo is missing: install Rust (Debian: apt install cargo) to run the Rust program of this test")
    target = ROOT / "build" / "rust"
    done = subprocess.run(
        [cargo, "build", "--quiet", "--locked", "--target-dir", str(target)],
        cwd=project,
        env={**os.environ, "CARGO_TERM_COLOR": "never"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if done.returncode:
        pytest.fail(f"cargo cannot build {project.name}: {done.stderr[-2000:]}")
    return target / "debug" / name
