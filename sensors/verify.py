"""All verifiers in one explicit list, and the option type that chooses among them by `scheme`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from sensors.verifiers.model import Verifier, VerifyOptions
from sensors.verifiers.plain import (
    API_KEY,
    BASIC,
    BEARER,
    NONE,
    ApiKeyOptions,
    BasicOptions,
    BearerOptions,
    NoneOptions,
)
from sensors.verifiers.providers import (
    SHOPIFY,
    SLACK,
    STRIPE,
    TWILIO,
    ShopifyOptions,
    SlackOptions,
    StripeOptions,
    TwilioOptions,
)
from sensors.verifiers.proxied import MTLS, MtlsOptions
from sensors.verifiers.signed import GITHUB, HMAC, GithubOptions, HmacOptions
from sensors.verifiers.sns import SNS, SnsOptions
from sensors.verifiers.standard import GITLAB, STANDARD_WEBHOOKS, GitlabOptions, StandardWebhooksOptions
from sensors.verifiers.tokens import JWT, JwtOptions

VERIFIERS: tuple[Verifier, ...] = (
    *(NONE, BEARER, BASIC, API_KEY, HMAC, JWT, MTLS),
    *(GITHUB, GITLAB, STANDARD_WEBHOOKS, STRIPE, SLACK, SHOPIFY, TWILIO, SNS),
)


def _written_out(value: Any) -> Any:
    return {"scheme": "none"} if value == "none" else value


Verify = Annotated[
    NoneOptions
    | BearerOptions
    | BasicOptions
    | ApiKeyOptions
    | HmacOptions
    | JwtOptions
    | MtlsOptions
    | GithubOptions
    | GitlabOptions
    | StandardWebhooksOptions
    | StripeOptions
    | SlackOptions
    | ShopifyOptions
    | TwilioOptions
    | SnsOptions,
    Field(discriminator="scheme"),
    BeforeValidator(_written_out),
]


def verifier_of(options: VerifyOptions) -> Verifier:
    """Return the verifier whose options these are. Raises LookupError for options of no listed scheme."""
    for verifier in VERIFIERS:
        if type(options) is verifier.options:
            return verifier
    raise LookupError(f"no verifier takes {type(options).__name__}")
