"""Access tokens: minted, kept as a hash, found, revoked, expired."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.clock import SECOND
from tests.support.house import FakeHouse, open_house
from tests.support.manual_clock import ManualClock
from tidegate.tokens import (
    PREFIX,
    AddToken,
    RevokeToken,
    Scope,
    Token,
    TokenBook,
    TokenRefused,
    find,
    from_json,
    mint,
    read_tokens,
    to_json,
)

NOW = 1_767_225_600_000_000


def test_what_is_kept_does_not_hold_the_token() -> None:
    """Only a hash of the token is kept; the text cannot be read from the record."""
    token, text = mint("grafana", Scope.READ, NOW)

    kept = to_json(token)

    assert text.startswith("tdg_")
    assert len(text.rpartition("_")[2]) == 64
    assert text not in kept
    assert text.rpartition("_")[2] not in kept
    assert token.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert from_json(kept) == token


def test_two_tokens_differ() -> None:
    """Minting twice never gives the same token."""
    assert mint("a", Scope.READ, NOW)[1] != mint("a", Scope.READ, NOW)[1]


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a" * 65, "a\n", "<b>", "é"])
def test_odd_names_are_refused(name: str) -> None:
    """A token's name is short and plain, so that it can be shown and typed anywhere."""
    with pytest.raises(TokenRefused, match="letters"):
        mint(name, Scope.READ, NOW)


@given(st.text())
def test_only_the_token_itself_is_found(text: str) -> None:
    """No other text than the token opens anything, whatever it is."""
    token, _ = mint("a", Scope.READ, NOW, digits="0" * 64)

    assert find({token.id: token}, text, NOW) is None


def test_a_token_with_one_digit_changed_is_not_found() -> None:
    """The right name with the wrong secret opens nothing."""
    token, text = mint("a", Scope.READ, NOW, digits="0" * 64)

    assert find({token.id: token}, text, NOW) == token
    assert find({token.id: token}, text[:-1] + "1", NOW) is None
    assert find({token.id: token}, text + "\n", NOW) is None


def test_scopes_are_ordered() -> None:
    """Admin may what operate may, which may what read may, and never the other way round."""
    order = [Scope.READ, Scope.OPERATE, Scope.ADMIN]

    assert [[a.covers(b) for b in order] for a in order] == [[True, False, False], [True, True, False], [True] * 3]


def test_an_expired_token_opens_nothing() -> None:
    """A token is in force up to its end, not including it."""
    token, text = mint("a", Scope.READ, NOW, expires_at=NOW + 10)

    assert find({token.id: token}, text, NOW + 9) is not None
    assert find({token.id: token}, text, NOW + 10) is None


async def _tokens(house: FakeHouse) -> list[Token]:
    return read_tokens(await house.real_store.read(lambda reader: reader.settings(PREFIX)))


async def test_names_are_unique_among_tokens_in_force(tmp_path: Path) -> None:
    """A name can be used again only after its token was revoked, so that revoking by name is exact."""
    async with open_house(tmp_path) as house:
        first, second = (mint("ci", Scope.OPERATE, NOW)[0] for _ in range(2))

        assert await house.real_store.submit(AddToken(), first) is None
        assert "revoke it first" in (await house.real_store.submit(AddToken(), second) or "")
        revoked = await house.real_store.submit(RevokeToken(), "ci")
        assert [token.id for token in revoked] == [first.id]
        assert await house.real_store.submit(RevokeToken(), "ci") == []
        assert await house.real_store.submit(AddToken(), second) is None
        assert [token.revoked_at is None for token in await _tokens(house)] == [
            token.id == second.id for token in await _tokens(house)
        ]


async def test_a_revocation_takes_effect_within_the_memory_of_the_book(tmp_path: Path) -> None:
    """The book remembers tokens for two seconds; after that a revoked one opens nothing."""
    async with open_house(tmp_path) as house:
        clock = ManualClock(NOW)
        book = TokenBook(house.real_store, clock, fresh=2.0)
        token, text = mint("ci", Scope.OPERATE, NOW - SECOND)
        await house.real_store.submit(AddToken(), token)
        assert await book.find(text) == token

        await house.real_store.submit(RevokeToken(), token.id)
        await clock.advance(2.1)

        assert await book.find(text) is None
