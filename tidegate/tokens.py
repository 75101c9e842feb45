"""Access tokens: minted once, shown once, kept only as a hash; each with one scope.

A token is `tdg_`, 26 characters that name it, `_` and 64 hex digits of randomness. Only the SHA-256 of the whole text
is kept, in the store's settings under `token/ID`: with 256 random bits there is nothing that a slower hash would
protect. Scopes are ordered: `admin` may what `operate` may, which may what `read` may.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import orjson

from sensors import uid as uids
from sensors.clock import Clock
from tidegate.store.tx import Store, Tx

PREFIX = "token/"
_TEXT = re.compile(r"tdg_([0-9a-hjkmnp-tv-z]{26})_[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"  # look at everything
    OPERATE = "operate"  # start, cancel, resume, pause, drop
    ADMIN = "admin"  # all of it

    def covers(self, other: "Scope") -> bool:
        """Say whether this scope includes the other."""
        return _RANK[self] >= _RANK[other]


_RANK = {Scope.READ: 0, Scope.OPERATE: 1, Scope.ADMIN: 2}


class TokenRefused(ValueError):
    """A token cannot be made or revoked as asked; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of a token. Moments are UTC microseconds; None: not revoked, never expires."""

    id: str
    name: str
    scope: Scope
    sha256: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def in_force(self, now: int) -> bool:
        """Say whether the token opens anything at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def mint(name: str, scope: Scope, now: int, *, expires_at: int | None = None, digits: str = "") -> tuple[Token, str]:
    """Make a token; return what is kept and the text that is shown once (`digits`: for tests). Raises TokenRefused."""
    if _NAME.fullmatch(name) is None:
        raise TokenRefused(
            f"a token's name is 1 to 64 letters, digits and . _ @ - beginning with a letter or digit, not {name[:80]!r}"
        )
    id = uids.new_uid("", now)  # noqa: A001 - the word of the record
    text = f"tdg_{id}_{digits or secrets.token_hex(32)}"
    record = Token(
        id=uids.TOKEN + id, name=name, scope=scope, sha256=_hash(text), created_at=now, expires_at=expires_at
    )
    return record, text


def to_json(token: Token) -> str:
    """Encode a record for the store."""
    return orjson.dumps(token).decode()


def from_json(text: str) -> Token:
    """Decode a record from the store."""
    raw = orjson.loads(text)
    return Token(**{**raw, "scope": Scope(raw["scope"])})


def read_tokens(settings: Mapping[str, str]) -> list[Token]:
    """Return all records among the store's settings, oldest first."""
    return sorted((from_json(text) for text in settings.values()), key=lambda token: token.id)


def find(tokens: Mapping[str, Token], text: str, now: int) -> Token | None:
    """Return the token in force that `text` is, None when there is none. Compares in constant time."""
    parts = _TEXT.fullmatch(text)
    if parts is None:
        return None
    token = tokens.get(uids.TOKEN + parts[1])
    if token is None or not hmac.compare_digest(token.sha256, _hash(text)):
        return None
    return token if token.in_force(now) else None


class AddToken:
    """The write that keeps a new token. Answers None, or why it was refused: names are unique among those in force."""

    name = "add_token"

    def __call__(self, tx: Tx, items: Sequence[Token]) -> Sequence[str | None]:
        """Keep the tokens of all callers."""
        now = tx.now()
        taken = {token.name for token in read_tokens(tx.get_settings(PREFIX)) if token.in_force(now)}
        answers: list[str | None] = []
        for token in items:
            if token.name in taken:
                answers.append(f"a token named {token.name} is in force; revoke it first, or choose another name")
                continue
            taken.add(token.name)
            tx.put_setting(PREFIX + token.id, to_json(token))
            answers.append(None)
        return answers


class RevokeToken:
    """The write that revokes by id or name. Answers the revoked tokens; none: there was no such one in force."""

    name = "revoke_token"

    def __call__(self, tx: Tx, items: Sequence[str]) -> Sequence[Sequence[Token]]:
        """Revoke for all callers."""
        now = tx.now()
        answers = []
        for item in items:
            tokens = read_tokens(tx.get_settings(PREFIX))
            found = [token for token in tokens if item in (token.id, token.name) and token.in_force(now)]
            revoked = [replace(token, revoked_at=now) for token in found]
            for token in revoked:
                tx.put_setting(PREFIX + token.id, to_json(token))
            answers.append(revoked)
        return answers


class TokenBook:
    """Looks tokens up in the store, remembering them for `fresh` seconds: a revocation takes effect within that."""

    def __init__(self, store: Store, clock: Clock, fresh: float = 2.0) -> None:
        self._store = store
        self._clock = clock
        self._fresh = fresh
        self._read_at = float("-inf")
        self._tokens: Mapping[str, Token] = {}

    async def find(self, text: str) -> Token | None:
        """Return the token in force that `text` is. Raises Unavailable when the store cannot answer now."""
        if self._clock.monotonic() - self._read_at > self._fresh:
            settings = await self._store.read(lambda reader: reader.settings(PREFIX))
            self._tokens = {token.id: token for token in read_tokens(settings)}
            self._read_at = self._clock.monotonic()
        return find(self._tokens, text, self._clock.now())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
