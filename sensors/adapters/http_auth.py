"""Who asks: what is added to each request so that an API knows us.

In flow requests, out flow signed ones. Secrets are read from their SecretStr at the last moment; no sentence, repr or
attribute ever holds one. Only OAuth 2 keeps something: the token, until shortly before it expires or until it is
refused; however many ask at once, one fetches it.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from urllib.parse import quote_plus, urlencode

from sensors.adapters.http_asking import Answer, Ask, shown_url
from sensors.adapters.http_items import BadAnswer, parse
from sensors.adapters.http_judge import judge
from sensors.adapters.http_options import ApiKeyAuth, BasicAuth, BearerAuth, OAuth2Auth
from sensors.clock import Clock
from sensors.errors import NotConnected
from sensors.hosts import Hosts

EARLY: Final = 60.0  # seconds before its end from which a token is not used any more
_SHORT: Final = 30.0  # for which a token without an end of its own, or with a very early one, is used at least
_UNSAID: Final = 300.0  # for how long a token is used whose end is not told

Exchange = Callable[[Ask], Awaitable[Answer]]


class Signer(Protocol):
    """Adds to a request who asks."""

    async def sign(self, ask: Ask, exchange: Exchange) -> Ask:
        """Return the request with what proves who asks. `exchange` sends requests of the signer's own."""
        ...

    def refused(self, ask: Ask) -> bool:
        """Note that a signed request was refused with 401; say whether signing it anew may help."""
        ...


class Nobody:
    """Adds nothing."""

    async def sign(self, ask: Ask, exchange: Exchange) -> Ask:
        return ask

    def refused(self, ask: Ask) -> bool:
        return False


class Fixed:
    """Adds the same to every request: a header or a query parameter."""

    def __init__(self, options: BearerAuth | BasicAuth | ApiKeyAuth) -> None:
        self._options = options

    async def sign(self, ask: Ask, exchange: Exchange) -> Ask:
        options = self._options
        if isinstance(options, BearerAuth):
            return ask.with_header("Authorization", f"Bearer {_plain(options.token.get_secret_value())}")
        if isinstance(options, BasicAuth):
            return ask.with_header("Authorization", _basic(options.username, options.password.get_secret_value()))
        key = options.key.get_secret_value()
        if options.header is not None:
            return ask.with_header(options.header, _plain(key))
        return ask.with_param(str(options.query), key)

    def refused(self, ask: Ask) -> bool:
        return False


class ClientCredentials:
    """OAuth 2 client credentials (RFC 6749, 4.4)."""

    def __init__(self, options: OAuth2Auth, clock: Clock, hosts: Hosts) -> None:
        self._options = options
        self._clock = clock
        self._hosts = hosts
        self._token = ""
        self._until = 0.0
        self._fetching = asyncio.Lock()

    async def sign(self, ask: Ask, exchange: Exchange) -> Ask:
        async with self._fetching:
            if not self._token or self._clock.monotonic() >= self._until:
                await self._fetch(exchange)
            return ask.with_header("Authorization", f"Bearer {self._token}")

    def refused(self, ask: Ask) -> bool:
        if ask.headers.get("Authorization") == f"Bearer {self._token}":  # else somebody has fetched another by now
            self._token = ""
        return True

    async def _fetch(self, exchange: Exchange) -> None:
        options, at = self._options, shown_url(self._options.token_url)
        form = {"grant_type": "client_credentials"}
        if options.scopes:
            form["scope"] = " ".join(options.scopes)
        if options.audience is not None:
            form["audience"] = options.audience
        secret = options.client_secret.get_secret_value()
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        if options.send == "body":
            form |= {"client_id": options.client_id, "client_secret": secret}
        else:
            headers["Authorization"] = _basic(quote_plus(options.client_id), quote_plus(secret))
        answer = await exchange(Ask("POST", options.token_url, (), headers, None, urlencode(form)))
        if answer.status in (400, 401, 403):
            raise NotConnected(
                f"{at} gives no token ({answer.status}); correct `client_id`, `client_secret`, `scopes` or `audience`"
            )
        judge(answer, self._hosts, self._clock.now())
        try:
            found = parse(answer.body)
        except BadAnswer:
            found = None
        token = found.get("access_token") if isinstance(found, dict) else None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise NotConnected(f"{at} answers without an `access_token`; correct `token_url`")
        life = found.get("expires_in")
        if isinstance(life, str) and life.isascii() and life.isdigit():
            life = int(life)
        seconds = float(life) if isinstance(life, int | float) and not isinstance(life, bool) else _UNSAID + EARLY
        self._token = token
        self._until = self._clock.monotonic() + max(min(_SHORT, seconds / 2), seconds - EARLY)


def signer_of(options: BearerAuth | BasicAuth | ApiKeyAuth | OAuth2Auth | None, clock: Clock, hosts: Hosts) -> Signer:
    """Return what signs requests. Raises ValueError for a secret that cannot stand where it belongs."""
    if options is None:
        return Nobody()
    if isinstance(options, OAuth2Auth):
        return ClientCredentials(options, clock, hosts)
    if isinstance(options, BearerAuth):
        _plain(options.token.get_secret_value())
    if isinstance(options, ApiKeyAuth) and options.header is not None:
        _plain(options.key.get_secret_value())
    return Fixed(options)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _plain(secret: str) -> str:
    """Return a secret that may stand in a header. Raises ValueError, which does not repeat it."""
    text = secret.strip()
    if not text.isascii() or not text.isprintable():
        raise ValueError("`auth`: the secret holds characters that no header can; is it the right one?")
    return text


async def ask_signed(ask: Ask, signer: Signer, exchange: Exchange) -> tuple[Answer, bool]:
    """Ask as somebody; once more when the proof was refused and can be had anew. Return also whether it was."""
    signed = await signer.sign(ask, exchange)
    answer = await exchange(signed)
    if answer.status != 401 or not signer.refused(signed):
        return answer, False
    return await exchange(await signer.sign(ask, exchange)), True
