"""What a case of a verifier is: options, a sender that signs without code of ours, and the vectors that are public."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensors.sensor import Request
from tests.support.senders import posted

Sign = Callable[[bytes, int], Request]


@dataclass(frozen=True)
class Vector:
    """A published example, or one that a specification implies, and whether it passes."""

    name: str
    options: Mapping[str, Any]
    request: Request
    passes: bool = True


@dataclass(frozen=True)
class Case:
    """One way to try a scheme.

    `other` are options under which what `sign` signs must not pass, `both` those of a rotation. `proof` are the headers
    that carry the proof. `tolerance` is the window in seconds, None where no time is signed. `signs_body`: the proof
    covers the content. `any_body`: whatever bytes the body holds, signed they pass. `ids`: the provider names its
    deliveries, so that a replay is the same event. `pages` are what may be fetched.
    """

    options: Mapping[str, Any]
    sign: Sign
    other: Mapping[str, Any]
    both: Mapping[str, Any]
    proof: tuple[str, ...]
    vectors: Sequence[Vector]
    tolerance: float | None = None
    signs_body: bool = True
    any_body: bool = True
    ids: bool = False
    pages: Mapping[str, bytes] = field(default_factory=dict)


def secrets(options: Mapping[str, Any], one: str = "secret", two: str = "another") -> dict[str, Any]:
    """Return options with the secret, with another, and with both."""
    return {
        "options": {**options, "secret": one},
        "other": {**options, "secret": two},
        "both": {**options, "secret": [two, one]},
    }


def header(name: str, value: str) -> Sign:
    """Return a sender that sets one header."""
    return lambda body, seconds: posted(body, {name: value}, seconds)


def whsec(raw: bytes) -> str:
    """Return a secret of Standard Webhooks."""
    return "whsec_" + base64.b64encode(raw).decode()


_SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a1"
    b"4d10d2c447fce8b6703c"
)


def of_slack(scheme: Mapping[str, Any]) -> Vector:
    """Return Slack's documented example, under options that fit it."""
    headers = {
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "x-slack-request-timestamp": "1531420618",
        "content-type": "application/x-www-form-urlencoded",
    }
    options = {**scheme, "secret": "8f742231b10e8888abcd99yyyzzz85a5"}
    return Vector("Slack's documented example", options, posted(_SLACK_BODY, headers, 1531420618))
