"""How brokers let us in: encryption and identity as the client library takes them."""

import asyncio
import base64
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiokafka.abc import AbstractTokenProvider

from sensors.adapters.kafka_access import OAuth, Sasl, Tls
from sensors.clock import Clock
from sensors.errors import NotConnected

_EARLY = 30.0  # seconds before its end at which a token is renewed
_TIMEOUT = 20.0
_LARGEST = 1 << 20


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Bearer tokens by client credentials: fetched when first asked for, and again shortly before they end."""

    def __init__(self, options: OAuth, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._turn = asyncio.Lock()

    async def token(self) -> str:
        """Return a token that is good for a while. Raises NotConnected."""
        async with self._turn:
            if not self._token or self._clock.monotonic() >= self._until:
                self._token, lasts = await self._fetch()
                self._until = self._clock.monotonic() + max(1.0, lasts - _EARLY)
            return self._token

    async def _fetch(self) -> tuple[str, float]:
        options = self._options
        form = {"grant_type": "client_credentials"} | ({"scope": options.scope} if options.scope else {})
        login = f"{options.client_id}:{options.client_secret.get_secret_value()}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as session,
                session.post(options.token_url, data=form, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise NotConnected(
                        f"{options.token_url} gives no token (status {answer.status}); check `sasl.oauth`"
                    )
                body = await answer.content.read(_LARGEST + 1)
                while len(body) <= _LARGEST and (more := await answer.content.read(_LARGEST)):
                    body += more
                if len(body) > _LARGEST:
                    raise NotConnected(f"{options.token_url} answers with more than a token")
                said = orjson.loads(body)
                return str(said["access_token"]), float(said.get("expires_in", 300))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotConnected(f"{options.token_url} cannot be asked for a token: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotConnected(f"{options.token_url} answers without an access_token") from error


def security(tls: Tls | None, sasl: Sasl | None, base: Path, clock: Clock) -> Mapping[str, Any]:
    """Return the client's arguments. Reads certificates. Raises NotConnected when one cannot be read."""
    given: dict[str, Any] = {
        "security_protocol": {
            (False, False): "PLAINTEXT",
            (True, False): "SSL",
            (False, True): "SASL_PLAINTEXT",
            (True, True): "SASL_SSL",
        }[tls is not None, sasl is not None]
    }
    if tls is not None:
        given["ssl_context"] = _context(tls, base)
    if sasl is not None:
        given["sasl_mechanism"] = sasl.mechanism
        if sasl.oauth is not None:
            given["sasl_oauth_token_provider"] = Tokens(sasl.oauth, clock)
        elif sasl.password is not None:
            given["sasl_plain_username"] = sasl.username
            given["sasl_plain_password"] = sasl.password.get_secret_value()
    return given


def _context(tls: Tls, base: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(base / tls.ca) if tls.ca else None)
        context.check_hostname = tls.check_hostname
        if tls.cert and tls.key:
            password = tls.key_password.get_secret_value() if tls.key_password else None
            context.load_cert_chain(base / tls.cert, base / tls.key, password)
    except (OSError, ssl.SSLError) as error:
        raise NotConnected(f"the certificates of `tls` cannot be read: {error}") from error
    return context
