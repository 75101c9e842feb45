"""`tidegate sensors send` and `refused`: a sample takes a sender's whole way, and operators see what was refused."""

import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ask
from tests.support.house import EVIL
from tests.support.served import Served
from tidegate.refusals import Seen

CONFIG = """
service: {{name: svc, listen: "0.0.0.0:{port}", store: "sqlite:///x.db"}}
sensors:
  hub: {{kind: webhook, path: /hooks/hub, verify: {{scheme: github, secret: "${{env:S:-secret}}"}}}}
  tenant:
    kind: webhook
    path: "/hooks/{{tenant}}/{{secret}}"
    path_secret: "${{env:P:-pa/th}}"
    verify: {{scheme: hmac, header: X-Sig, timestamp_header: X-Time, secret: "${{env:S:-secret}}"}}
  sms:
    kind: webhook
    path: /hooks/sms
    verify: {{scheme: twilio, url: "https://x.example.com", secret: "${{env:S:-s}}"}}
  topic:
    {{kind: webhook, path: /t, verify: {{scheme: sns, topics: ["arn:aws:sns:eu-north-1:123456789012:landing"]}}}}
  folder: {{kind: files, path: ./in, start: now}}
"""


class _Endpoint(http.server.BaseHTTPRequestHandler):
    """Remembers what came and answers as it is told."""

    seen: list[tuple[str, dict[str, str], bytes]]
    status = 202

    def do_POST(self) -> None:
        """Take a request."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, {name.lower(): text for name, text in self.headers.items()}, body))
        answer = b'{"events":[]}'
        self.send_response(self.status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[tuple[type[_Endpoint], int]]:
    handler = type("Handler", (_Endpoint,), {"seen": []})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield handler, server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _config(folder: Path, port: int) -> str:
    path = folder / "tidegate.yaml"
    path.write_text(CONFIG.format(port=port))
    return str(path)


def test_a_sample_is_signed_as_its_provider_would(
    tmp_path: Path, bare: Ask, endpoint: tuple[type[_Endpoint], int]
) -> None:
    """GitHub's headers come with the body as it is, to the address that the configuration listens on."""
    handler, port = endpoint
    (tmp_path / "push.json").write_bytes(b'{"ref": "x"}')
    result = bare("sensors", "send", "hub", str(tmp_path / "push.json"), "-c", _config(tmp_path, port), "-H", "X-A: b")

    ((path, headers, body),) = handler.seen
    assert (result.exit_code, path, body) == (0, "/hooks/hub", b'{"ref": "x"}')
    assert headers["x-hub-signature-256"] == "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    assert (headers["content-type"], headers["x-a"]) == ("application/json", "b")
    assert headers["x-github-delivery"].startswith("sample-")
    assert "202" in result.output


def test_paths_queries_and_secrets_are_filled_in(
    tmp_path: Path, bare: Ask, endpoint: tuple[type[_Endpoint], int]
) -> None:
    """The path's secret comes from the configuration, its names from the command, and neither breaks the path."""
    handler, port = endpoint
    words = ("-p", "tenant=ac/me", "-q", "wait=5s", "--type", "text/plain", "--json")
    result = bare("sensors", "send", "tenant", "-", "-c", _config(tmp_path, port), *words, input=b"hi")

    ((path, headers, body),) = handler.seen
    signed = f"{headers['x-time']}.hi".encode()
    assert path == "/hooks/ac%2Fme/pa%2Fth?wait=5s"
    assert headers["x-sig"] == hmac.new(b"secret", signed, hashlib.sha256).hexdigest()
    assert (headers["content-type"], body) == ("text/plain", b"hi")
    assert json.loads(result.output)["status"] == 202


@pytest.mark.parametrize(("status", "code"), [(200, 0), (401, 1), (429, 1), (503, 3)])
def test_the_exit_code_says_what_was_answered(
    tmp_path: Path, bare: Ask, endpoint: tuple[type[_Endpoint], int], status: int, code: int
) -> None:
    """0 for taken, 1 for refused, 3 for a fault of the service."""
    handler, port = endpoint
    handler.status = status
    assert bare("sensors", "send", "hub", "-", "-c", _config(tmp_path, port), input=b"{}").exit_code == code


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nobody", "-"), "there is no webhook nobody"),
        (("folder", "-"), "there is no webhook folder"),
        (("tenant", "-"), "needs -p tenant="),
        (("topic", "-"), "does not hold"),
        (("sms", "-", "--type", "application/json"), "bodySHA256"),
        (("hub", "missing.json"), "cannot read missing.json"),
        (("hub", "-", "-H", "x"), "is not name:value"),
        (("hub", "-", "--url", "ftp://x"), "is no URL"),
    ],
)
def test_what_cannot_be_sent_is_told(tmp_path: Path, bare: Ask, words: tuple[str, ...], sentence: str) -> None:
    """A sentence says what is missing, and nothing is sent."""
    result = bare("sensors", "send", *words, "-c", _config(tmp_path, 9), input=b"{}")
    assert result.exit_code == 2
    assert sentence in result.output


def test_nobody_there(tmp_path: Path, bare: Ask) -> None:
    """Without a service the command says so; exit code 3."""
    result = bare("sensors", "send", "hub", "-", "-c", _config(tmp_path, 9), input=b"{}")
    assert (result.exit_code, "cannot reach" in result.output) == (3, True)


def test_refusals_are_shown_to_operators(served: Served, ask: Ask) -> None:
    """The last refused requests with their reasons, without control characters; all of it as JSON."""
    seen = Seen("POST", {"x-tenant": EVIL}, ("token",), 12, "")
    served.house.refusals.add("hook", 1_767_225_600_000_000, 401, "unverified", f"hmac: {EVIL}", "192.0.2.1", seen)
    result = ask("sensors", "refused", "hook")
    assert result.exit_code == 0
    assert "unverified" in result.output
    assert "192.0.2.1" in result.output
    assert "\x1b" not in result.output
    (item,) = json.loads(ask("sensors", "refused", "hook", "--json").output)["items"]
    assert (item["status"], item["method"], item["query"], item["size"]) == (401, "POST", ["token"], 12)
    assert "nothing was refused" in ask("sensors", "refused", "landing").output
