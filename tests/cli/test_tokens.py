"""Tokens from the command line, on the store itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.support.served import serve_house

Ask = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/t.db"


def test_the_first_token_needs_no_service(store: str, bare: Ask) -> None:
    """A token is made on an empty store, shown once on standard output, and never listed."""
    made = bare("tokens", "add", "grafana", "--scope", "read", "--expires", "90d", "--store", store)
    listed = bare("tokens", "list", "--store", store)

    text = made.stdout.strip()
    assert made.exit_code == 0
    assert text.startswith("tdg_")
    assert "grafana" in listed.output
    assert "in force" in listed.output
    assert text not in listed.output
    items = json.loads(bare("tokens", "--store", store, "--json").output)["items"]
    assert [(item["name"], item["scope"], item["in_force"]) for item in items] == [("grafana", "read", True)]
    assert text.rpartition("_")[2] not in json.dumps(items)


def test_revoking_asks(store: str, bare: Ask) -> None:
    """Revoking asks first, is for good, and says when there is nothing to revoke."""
    bare("tokens", "add", "ci", "--scope", "operate", "--store", store)

    assert bare("tokens", "revoke", "ci", "--store", store).exit_code == 2
    assert bare("tokens", "revoke", "ci", "--store", store, "--yes").exit_code == 0
    assert "revoked" in bare("tokens", "--store", store).output
    assert bare("tokens", "revoke", "ci", "--store", store, "--yes").exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        ["add", "a b"],
        ["add", "x", "--scope", "root"],
        ["add", "x", "--expires", "soon"],
        ["add", "x", "--expires", "-1d"],
    ],
    ids=" ".join,
)
def test_bad_words_are_usage_errors(words: list[str], store: str, bare: Ask) -> None:
    """Names, scopes and ages that are none are exit code 2, and nothing is made."""
    assert bare("tokens", *words, "--store", store).exit_code == 2


def test_a_name_is_used_once(store: str, bare: Ask) -> None:
    """Two tokens in force never share a name."""
    bare("tokens", "add", "ci", "--store", store)
    second = bare("tokens", "add", "ci", "--store", store)

    assert (second.exit_code, "revoke it first" in second.stderr) == (1, True)


def test_a_store_that_is_none(bare: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be opened is said in one sentence; no configuration is a usage error."""
    monkeypatch.chdir(tmp_path)

    assert bare("tokens", "--store", "mysql://x").exit_code == 1
    assert bare("tokens").exit_code == 2


def test_a_store_that_a_service_has_to_itself_is_reached_through_it(
    tmp_path: Path, bare: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the service runs on SQLite, tokens are made, listed and revoked by asking it."""
    url = f"sqlite:///{tmp_path}/served.db"
    with serve_house(tmp_path, url=url) as served:
        monkeypatch.setenv("TIDEGATE_URL", served.url)

        made = bare("tokens", "add", "ci", "--scope", "operate", "--expires", "1d", "--store", url)
        listed = json.loads(bare("tokens", "--store", url, "--json").output)["items"]
        revoked = bare("tokens", "revoke", "ci", "--store", url, "--yes")

        assert (made.exit_code, made.stdout[:4]) == (0, "tdg_")
        assert [(item["name"], item["in_force"]) for item in listed] == [("ci", True)]
        assert revoked.exit_code == 0
        assert not json.loads(bare("tokens", "--store", url, "--json").output)["items"][0]["in_force"]
