"""The verifier `jwt`: a signed token in the Authorization header, as OpenID Connect and workload identities issue it.

Its algorithms are pinned here, never taken from the token. Keys stand in the configuration, or are fetched from the
issuer and kept: a key that is not known is asked for again, but strangers cannot make us ask more often than `BURST`
times, and then every `PATIENCE` seconds. While the issuer is away its last keys serve; without any the answer is 503,
since that is not the sender's fault.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

import orjson
from pydantic import Field, SecretStr, model_validator

from sensors.clock import Clock
from sensors.ports import Unavailable
from sensors.sensor import Request
from sensors.units import Duration
from sensors.verifiers.model import Fetch, Forged, Keys, Verifier, VerifyOptions
from sensors.verifiers.plain import bearer_token

PATIENCE: Final = 30.0  # seconds after which one more fetch is allowed
BURST: Final = 3  # fetches that are allowed at once
FRESH: Final = 3600.0  # seconds after which the keys are fetched again
_MAX_TOKEN = 16 * 1024
_MAX_KEYS = 100
_SHARED: Final = ("HS256", "HS384", "HS512")
_HEADER = re.compile(r"[A-Za-z0-9_-]{1,64}")

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"
]


class JwtOptions(VerifyOptions):
    """A token signed by an issuer. Exactly one of `secret`, `key`, `jwks_url`; without any, the issuer's own keys."""

    scheme: Literal["jwt"]
    issuer: str | None = Field(None, description="what `iss` must be")
    audience: str | tuple[str, ...] = Field(description="what `aud` must name: this service, as the issuer calls it")
    algorithms: tuple[Algorithm, ...] = Field(("RS256",), min_length=1)
    secret: SecretStr | tuple[SecretStr, ...] | None = Field(None, description="of HS256 and its like")
    key: str | tuple[str, ...] | None = Field(None, description="public keys in PEM")
    jwks_url: str | None = Field(None, description="where the issuer's keys are; by default it is asked")
    claims: Mapping[str, str] = Field({}, description="further claims and what they must be, such as azp or sub")
    leeway: Duration = Field(60.0, ge=0, description="how far the clocks may be apart")

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Self:
        given = [name for name in ("secret", "key", "jwks_url") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(f'`{name}`' for name in given)} exclude each other")
        if not given and self.issuer is None:
            raise ValueError("`issuer` is needed to find its keys; or write `jwks_url`, `key` or `secret`")
        shared = [name for name in self.algorithms if name in _SHARED]
        if bool(shared) != (self.secret is not None) or (shared and len(shared) != len(self.algorithms)):
            raise ValueError("`secret` goes with HS256, HS384 and HS512, and with nothing else")
        for url in (self.jwks_url, None if given else self.issuer):
            if url is not None and not url.startswith("https://"):
                raise ValueError(f"{url!r} must begin with https://")
        return self

    def own_keys(self) -> Keys:
        """Return the keys that stand in the configuration."""
        if self.secret is not None:
            secrets = (self.secret,) if isinstance(self.secret, SecretStr) else self.secret
            return tuple(secret.get_secret_value().encode() for secret in secrets)
        texts = (self.key,) if isinstance(self.key, str) else self.key or ()
        return tuple(text.encode() for text in texts)


def check_token(token: str, keys: Mapping[str, Any], options: JwtOptions, now: int) -> None:
    """Check signature and claims of a token against keys by their id (`""`: keys without one). Pure."""
    import jwt

    header = jwt.get_unverified_header(token)
    algorithm = header.get("alg")
    if algorithm not in options.algorithms:
        raise Forged("the token's algorithm is not among `algorithms`")
    if "crit" in header:
        raise Forged("the token demands an extension")
    claims: dict[str, Any] | None = None
    for key in _candidates(header, keys):
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=options.audience,
                issuer=options.issuer,
                options={
                    "require": ["exp", "aud"] + (["iss"] if options.issuer else []),
                    "verify_exp": False,  # judged below, by the clock of the request
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_sub": False,
                },
            )
            break
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError, TypeError):
            continue
    if claims is None:
        raise Forged("no key fits the token's signature")
    _check_times(claims, options.leeway, now / 1e6)
    for name, wanted in options.claims.items():
        if claims.get(name) != wanted:
            raise Forged(f"the claim {name} is another")


def _candidates(header: Mapping[str, Any], keys: Mapping[str, Any]) -> list[Any]:
    kid = header.get("kid")
    if kid is not None and kid in keys:
        return [keys[kid]]
    return [key for name, key in keys.items() if kid is None or name.startswith("#")]


def _check_times(claims: Mapping[str, Any], leeway: float, now: float) -> None:
    for name, late in (("exp", True), ("nbf", False), ("iat", False)):
        value = claims.get(name)
        if value is None and name != "exp":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Forged(f"the claim {name} is no time")
        if (now - leeway >= value) if late else (value > now + leeway):
            raise Forged("the token has expired" if late else f"the token's {name} lies in the future")


class JwtKeys:
    """The keys of one issuer, and the check with them (`sensors.verifiers.model.Live`)."""

    def __init__(self, options: JwtOptions, fetch: Fetch | None, clock: Clock) -> None:
        self._options = options
        self._fetch = fetch
        self._clock = clock
        own = options.own_keys()
        self._fixed = bool(own)
        self._keys: Mapping[str, Any] = _parsed(own, shared=options.secret is not None)
        self._url = options.jwks_url
        self._allowed, self._since = float(BURST), clock.monotonic()
        self._got: float | None = None  # on the monotonic clock
        self._why = "they were not asked for yet"
        self._lock = asyncio.Lock()

    async def prepare(self, request: Request) -> None:
        """Fetch the keys when there are none, when they are old, or when the token names one that is not known."""
        if self._fixed:
            return
        try:
            import jwt

            kid = jwt.get_unverified_header(_token(request)).get("kid")
        except Exception:  # noqa: BLE001 - whatever is wrong with the token, the check says so
            return
        if self._lacks(kid):
            async with self._lock:
                if self._lacks(kid) and self._may_ask():
                    await self._refresh()
        if not self._keys:
            raise Unavailable(f"the keys of the issuer cannot be had: {self._why}", PATIENCE)

    def check(self, request: Request) -> None:
        """Check the token with the keys at hand."""
        check_token(_token(request), self._keys, self._options, request.received_at)

    async def confirm(self, request: Request) -> None:
        """Nothing is to be confirmed."""

    def _lacks(self, kid: Any) -> bool:
        old = self._got is None or self._clock.monotonic() - self._got > FRESH
        return old or (kid is not None and kid not in self._keys)

    def _may_ask(self) -> bool:
        """Take one of the allowed fetches, when there is one."""
        now = self._clock.monotonic()
        self._allowed = min(float(BURST), self._allowed + (now - self._since) / PATIENCE)
        self._since = now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True

    async def _refresh(self) -> None:
        """Ask the issuer; when it does not answer, the keys of before stay."""
        if self._fetch is None:
            self._why = "nothing is fetched here"
            return
        try:
            if self._url is None:
                where = f"{(self._options.issuer or '').rstrip('/')}/.well-known/openid-configuration"
                found = orjson.loads(await self._fetch(where))
                own = isinstance(found, dict) and found.get("issuer") == self._options.issuer
                url = found.get("jwks_uri") if own else None
                if not isinstance(url, str):
                    raise Unavailable("its configuration names another issuer, or no keys")
                if not url.startswith("https://"):
                    raise Unavailable("its keys are not at an https address")
                self._url = url
            keys = parse_jwks(await self._fetch(self._url), self._options.algorithms)
            if not keys:
                raise Unavailable("there is no key that fits `algorithms`")
        except (Unavailable, LookupError, ValueError) as error:
            self._why = str(error)
            if self._options.jwks_url is None and not self._keys:
                self._url = None
            return
        self._keys, self._got = keys, self._clock.monotonic()


def _token(request: Request) -> str:
    token = bearer_token(request)
    if len(token) > _MAX_TOKEN:
        raise Forged("the token is too long")
    return token


def _parsed(texts: Keys, *, shared: bool) -> Mapping[str, Any]:
    """Return own keys under names that no token can ask for."""
    if shared:
        return {f"#{number}": key for number, key in enumerate(texts)}
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return {f"#{number}": load_pem_public_key(key) for number, key in enumerate(texts)}
    except ValueError:
        raise ValueError("jwt: `key` must be a public key in PEM, from -----BEGIN PUBLIC KEY----- on") from None


def parse_jwks(document: bytes, algorithms: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the signing keys of a key set by their id, those that cannot be used left out. Raises ValueError."""
    import jwt

    found = orjson.loads(document)
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the key set holds no `keys`")  # noqa: TRY004 - callers expect ValueError
    keys: dict[str, Any] = {}
    for number, entry in enumerate(entries[:_MAX_KEYS]):
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            continue
        if entry.get("alg") not in (None, *algorithms):
            continue
        try:
            key = jwt.PyJWK(entry, algorithm=None if entry.get("alg") else _algorithm_of(entry, algorithms)).key
        except (jwt.PyJWTError, ValueError, KeyError, TypeError):
            continue
        kid = entry.get("kid")
        keys[kid if isinstance(kid, str) and not kid.startswith("#") else f"#{number}"] = key
    return keys


def _algorithm_of(entry: Mapping[str, Any], algorithms: tuple[str, ...]) -> str:
    """Return an allowed algorithm that a key of this type can have. Raises ValueError when there is none."""
    starts = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("Ed",)}.get(str(entry.get("kty")), ())
    for name in algorithms:
        if name.startswith(starts) and starts:
            return name
    raise ValueError("no allowed algorithm fits the key")


def _never(_request: Request, _keys: Keys, _options: JwtOptions, _now: int) -> None:
    raise Forged("the keys are not at hand")


def _live(options: JwtOptions, fetch: Fetch | None, clock: Clock) -> JwtKeys:
    return JwtKeys(options, fetch, clock)


def _authorization(_options: JwtOptions) -> tuple[str, ...]:
    return ("authorization",)


JWT = Verifier(
    "jwt",
    "a token (JWT) signed by an OpenID Connect issuer, or under a key of yours",
    JwtOptions,
    _never,
    secret_headers=_authorization,
    challenge="Bearer",
    live=_live,
)
