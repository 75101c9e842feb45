"""The command line against a served house."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipelines.run import RunState
from tests.support.house import EVIL
from tests.support.served import Served, serve_house

Ask = Callable[..., Result]


async def _live(served: Served) -> None:
    house = served.house
    await house.receive("a.csv")
    await house.work()
    await house.receive("b.csv")
    await house.work(RunState.FAILED)
    await house.receive("small.csv", data=b'{"size": 1}')
    await house.receive(EVIL, sensor="hook")
    await house.bury()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_house(tmp_path) as made:
        made.do(_live(made))
        yield made


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command without any setting of this machine."""
    for name in ("TIDEGATE_URL", "TIDEGATE_TOKEN", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def ask(*words: str, **settings: object) -> Result:
        from tidegate.cli.main import app

        return CliRunner().invoke(app, list(words), catch_exceptions=False, **settings)  # type: ignore[arg-type]

    return ask


@pytest.fixture
def ask(served: Served, bare: Ask, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command against the served house."""
    monkeypatch.setenv("TIDEGATE_URL", served.url)
    return bare
