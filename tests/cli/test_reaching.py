"""Reaching the service: exit codes and sentences when it cannot be reached, or lets nobody in."""

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from sensors.clock import SystemClock
from tests.support.served import Served, serve_house
from tidegate.tokens import AddToken, Scope, mint

Ask = Callable[..., Result]


class _Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def stranger() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Stranger)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_nothing_listens(bare: Ask) -> None:
    """Where nothing listens the exit code is 3, and the sentence names the remedy."""
    result = bare("runs", "--url", "http://127.0.0.1:9")

    assert (result.exit_code, "TIDEGATE_URL" in result.stderr) == (3, True)
    assert bare("health", "--url", "http://127.0.0.1:9").exit_code == 3


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://x:99999999"])
def test_what_is_no_url_is_a_usage_error(url: str, bare: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL that is none is said to be none, from the option and from the environment."""
    assert bare("runs", "--url", url).exit_code == 2
    monkeypatch.setenv("TIDEGATE_URL", url)
    assert bare("runs").exit_code == 2


def test_somebody_else_listens(bare: Ask, stranger: str) -> None:
    """What answers and is not Tidegate counts as not reached."""
    result = bare("runs", "--url", stranger)

    assert (result.exit_code, "not Tidegate" in result.stderr) == (3, True)


def test_a_store_that_is_away_counts_as_not_reached(ask: Ask, served: Served) -> None:
    """A service that cannot answer now is exit code 3, so that scripts try again."""
    served.house.down = True

    assert ask("runs").exit_code == 3


def test_a_token_opens(tmp_path: Path, bare: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token the sentence says what to set; with it the command works."""
    token, text = mint("me", Scope.READ, SystemClock().now())
    with serve_house(tmp_path, "0.0.0.0:8080") as served:

        async def add() -> None:
            await served.house.real_store.submit(AddToken(), token)

        served.do(add())
        monkeypatch.setenv("TIDEGATE_URL", served.url)
        refused = bare("runs")
        monkeypatch.setenv("TIDEGATE_TOKEN", text)

        assert (refused.exit_code, "TIDEGATE_TOKEN" in refused.stderr) == (1, True)
        assert bare("runs").exit_code == 0
        assert "scope is read" in bare("triggers", "pause", "everything").stderr


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    """`tidegate --help` loads neither the service nor what draws tables."""
    code = (
        "import sys\nfrom tidegate.cli.main import app\n"
        "heavy = {'fastapi', 'uvicorn', 'rich', 'pydantic', 'sqlalchemy', 'aiohttp', 'opentelemetry', 'polars'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    started = time.perf_counter()

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert result.stdout.strip() == "[]"
    assert time.perf_counter() - started < 5  # 0.3 s alone; here others share the machine


def test_an_unknown_command_is_a_usage_error(bare: Ask) -> None:
    """What is no command is exit code 2."""
    assert bare("fly").exit_code == 2
    assert bare("runs", "fly").exit_code == 2
    assert bare("runs", "show").exit_code == 2
