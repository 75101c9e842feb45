"""Keys of an issuer: fetched when needed, kept, changed without a restart, and never at a stranger's whim."""

from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from sensors.errors import Refused
from sensors.ports import Unavailable
from sensors.sensor import Request
from sensors.testing import VirtualClock
from sensors.verifiers.tokens import BURST, FRESH, JWT, PATIENCE, JwtKeys, JwtOptions
from tests.support.senders import ISSUER, NOW, fetcher, jwks, posted, public_pem, rsa_key, token

_URL = "https://issuer.example.com/keys"
_BASE: dict[str, Any] = {"scheme": "jwt", "issuer": ISSUER, "audience": "tidegate"}


class _Issuer:
    """One verifier, its issuer, and what was asked."""

    def __init__(self, pages: dict[str, bytes] | None = None, **options: Any) -> None:
        self.pages = {_URL: jwks(k1="one")} if pages is None else pages
        self.asked: list[str] = []
        self.away: list[str] = []
        self.clock = VirtualClock(NOW * 1_000_000)
        self.options = JwtOptions.model_validate({**_BASE, "jwks_url": _URL, **options})
        self.live = JwtKeys(self.options, fetcher(self.pages, self.asked, self.away), self.clock)
        self._bound = JWT.bind(self.options, self.live)

    async def takes(self, text: str, seconds: int = NOW) -> bool:
        request = _bearer(text, seconds)
        await self.live.prepare(request)
        try:
            self._bound(request)
        except Refused as refused:
            if refused.status != 401:
                raise
            return False
        return True


def _bearer(text: str, seconds: int = NOW) -> Request:
    return posted(b"{}", {"authorization": f"Bearer {text}"}, seconds)


async def test_keys_are_fetched_once() -> None:
    """Many deliveries cost one question."""
    issuer = _Issuer()
    for _ in range(5):
        assert await issuer.takes(token(kid="k1"))
    assert issuer.asked == [_URL]


async def test_a_new_key_is_found_without_a_restart() -> None:
    """When the issuer changes its key, the first delivery under the new one is taken."""
    issuer = _Issuer()
    assert await issuer.takes(token(kid="k1"))
    issuer.pages[_URL] = jwks(k1="one", k2="two")
    assert await issuer.takes(token(key=rsa_key("two"), kid="k2"))
    assert await issuer.takes(token(kid="k1"))
    assert len(issuer.asked) == 2


async def test_a_key_that_was_withdrawn_is_forgotten() -> None:
    """Keys are asked for again after an hour, and what the issuer withdrew is refused then."""
    issuer = _Issuer()
    assert await issuer.takes(token(kid="k1"))
    issuer.pages[_URL] = jwks(k2="two")
    await issuer.clock.advance(FRESH + 1)
    assert not await issuer.takes(token(kid="k1"))


async def test_strangers_cannot_make_us_ask_without_end() -> None:
    """A hundred tokens with keys that nobody knows cost a few questions, and then one in a while."""
    issuer = _Issuer()
    for number in range(100):
        assert not await issuer.takes(token(kid=f"unknown-{number}"))
    assert len(issuer.asked) == BURST
    await issuer.clock.advance(PATIENCE + 1)
    for number in range(100):
        assert not await issuer.takes(token(kid=f"other-{number}"))
    assert len(issuer.asked) == BURST + 1
    assert await issuer.takes(token(kid="k1"))


async def test_an_issuer_that_is_away_is_our_trouble() -> None:
    """Without keys nobody can be verified: that is 503 for tokens, and still 401 for what is none."""
    issuer = _Issuer()
    issuer.away.append(_URL)
    with pytest.raises(Unavailable, match="cannot be had"):
        await issuer.takes(token(kid="k1"))
    assert not await issuer.takes("rubbish")


async def test_the_last_keys_serve_while_the_issuer_is_away() -> None:
    """An outage of the issuer stops nobody whose key is known."""
    issuer = _Issuer()
    assert await issuer.takes(token(kid="k1"))
    issuer.away.append(_URL)
    await issuer.clock.advance(FRESH * 3)
    assert await issuer.takes(token(kid="k1"))


@pytest.mark.parametrize(
    "configuration",
    [
        b'{"issuer": "https://evil.example.com", "jwks_uri": "https://issuer.example.com/keys"}',
        b'{"issuer": "https://issuer.example.com", "jwks_uri": "http://issuer.example.com/keys"}',
        b'{"issuer": "https://issuer.example.com"}',
        b"[]",
        b"<html>",
    ],
)
async def test_the_issuers_configuration_must_be_its_own(configuration: bytes) -> None:
    """Keys are taken from nowhere else than the issuer says itself, over https."""
    where = f"{ISSUER}/.well-known/openid-configuration"
    issuer = _Issuer({where: configuration, _URL: jwks(k1="one")}, jwks_url=None)
    with pytest.raises(Unavailable):
        await issuer.takes(token(kid="k1"))


async def test_algorithms_are_pinned() -> None:
    """A public key is no secret of HS256, `none` is no algorithm, and a token chooses nothing."""
    issuer = _Issuer()
    assert not await issuer.takes(token(key="x" * 64, algorithm="HS256", kid="k1"))
    assert not await issuer.takes(jwt.encode({"aud": "tidegate", "iss": ISSUER, "exp": NOW + 9}, "", algorithm="none"))
    assert not await issuer.takes(token(algorithm="RS512", kid="k1"))
    both = _Issuer(algorithms=["RS256", "RS512"])
    assert await both.takes(token(algorithm="RS512", kid="k1"))


@pytest.mark.parametrize(
    ("claims", "passes"),
    [
        ({}, True),
        ({"aud": ["other", "tidegate"]}, True),
        ({"aud": "other"}, False),
        ({"aud": None}, False),
        ({"iss": "https://evil.example.com"}, False),
        ({"iss": None}, False),
        ({"exp": None}, False),
        ({"exp": "soon"}, False),
        ({"exp": True}, False),
        ({"exp": NOW - 59}, True),
        ({"exp": NOW - 61}, False),
        ({"nbf": NOW + 59}, True),
        ({"nbf": NOW + 61}, False),
        ({"iat": NOW + 3600}, False),
        ({"azp": "orders"}, True),
    ],
)
async def test_claims(claims: dict[str, Any], passes: bool) -> None:
    """Issuer, audience and times must be right, each within the leeway."""
    assert await _Issuer().takes(token(kid="k1", **claims)) is passes


async def test_further_claims_that_are_asked_for() -> None:
    """`claims` pins who among an issuer's many clients may post."""
    issuer = _Issuer(claims={"azp": "orders"})
    assert await issuer.takes(token(kid="k1", azp="orders"))
    assert not await issuer.takes(token(kid="k1", azp="other"))
    assert not await issuer.takes(token(kid="k1"))


@pytest.mark.parametrize(
    "options",
    [
        {"issuer": None},
        {"jwks_url": "http://issuer.example.com/keys"},
        {"issuer": "http://issuer.example.com"},
        {"secret": "x" * 64},
        {"algorithms": ["HS256"]},
        {"algorithms": ["HS256", "RS256"], "secret": "x" * 64},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"key": "x", "jwks_url": _URL},
        {"audience": None},
    ],
)
def test_options_that_would_weaken_it_are_refused(options: dict[str, Any]) -> None:
    """No plain http, no secret among public algorithms, no token without an audience."""
    with pytest.raises(ValidationError):
        JwtOptions.model_validate({name: value for name, value in {**_BASE, **options}.items() if value is not None})


def test_a_key_that_is_none_is_named() -> None:
    """A private key, or rubbish, in place of a public one is an error of the configuration that does not tell it."""
    for text in ("geheim", public_pem()[:80]):
        options = JwtOptions.model_validate({**_BASE, "key": text})
        with pytest.raises(ValueError, match="public key in PEM") as refused:
            JwtKeys(options, None, VirtualClock())
        assert "geheim" not in str(refused.value)
