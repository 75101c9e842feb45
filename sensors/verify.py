"""All verifiers in one explicit list, and the option type that chooses among them by `scheme`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from sensors.verifiers.model import Verifier, VerifyOptions
from sensors.verifiers.plain import BASIC, BEARER, NONE, BasicOptions, BearerOptions, NoneOptions
from sensors.verifiers.signed import (
    GITHUB,
    HMAC,
    STANDARD_WEBHOOKS,
    GithubOptions,
    HmacOptions,
    StandardWebhooksOptions,
)

VERIFIERS: tuple[Verifier, ...] = (NONE, BEARER, BASIC, HMAC, GITHUB, STANDARD_WEBHOOKS)


def _written_out(value: Any) -> Any:
    return {"scheme": "none"} if value == "none" else value


Verify = Annotated[
    NoneOptions | BearerOptions | BasicOptions | HmacOptions | GithubOptions | StandardWebhooksOptions,
    Field(discriminator="scheme"),
    BeforeValidator(_written_out),
]


def verifier_of(options: VerifyOptions) -> Verifier:
    """Return the verifier whose options these are. Raises LookupError for options of no listed scheme."""
    for verifier in VERIFIERS:
        if type(options) is verifier.options:
            return verifier
    raise LookupError(f"no verifier takes {type(options).__name__}")
