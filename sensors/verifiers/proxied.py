"""The verifier `mtls`: a proxy of ours has checked the client's certificate and says in a header whose it is.

The header is believed only when the peer is one of `proxies`; from anybody else it is a claim that proves nothing. The
proxy must remove the header from what clients send.
"""

import re
from collections.abc import Iterator
from typing import Literal, Self
from urllib.parse import unquote_to_bytes

from pydantic import Field, field_validator, model_validator

from sensors.sensor import Request
from sensors.verifiers.addresses import parsed_networks, within
from sensors.verifiers.model import Forged, Keys, Verifier, VerifyOptions, only

_MAX_HEADER = 16 * 1024
_PAIR = re.compile(r'\s*([A-Za-z]{1,16})=("(?:[^"\\]|\\.)*"|[^;,"]*)\s*(;|,|$)')
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class MtlsOptions(VerifyOptions):
    """A client certificate that a proxy has checked.

    `carries`: what the header holds. `subject`: the certificate's subject or another text of the proxy's.
    `certificate`: the certificate itself, in PEM, percent-encoded (nginx' `$ssl_client_escaped_cert`). `xfcc`:
    Envoy's X-Forwarded-Client-Cert.
    """

    scheme: Literal["mtls"]
    header: str = Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$", description="the header that the proxy sets")
    carries: Literal["subject", "certificate", "xfcc"] = "subject"
    allow: tuple[str, ...] = Field(
        min_length=1,
        description="who may post: subjects; of `certificate` SHA-256 fingerprints; of `xfcc` both, URIs and DNS names",
    )
    verified_header: str | None = Field(None, description="a header in which the proxy says that it checked")
    verified_value: str = Field("SUCCESS", description="what stands there when the certificate is good")

    @field_validator("header", "verified_header")
    @classmethod
    def _lower(cls, value: str | None) -> str | None:
        return value.lower() if value is not None else None

    @model_validator(mode="after")
    def _proxies_are_named(self) -> Self:
        if not self.proxies:
            raise ValueError("`proxies` must name the proxies whose word is taken, such as [10.0.0.0/8]")
        wanted = [_plain(text) for text in self.allow]
        if self.carries == "certificate" and not all(_FINGERPRINT.fullmatch(text) for text in wanted):
            raise ValueError("`allow` must hold SHA-256 fingerprints: 64 hexadecimal digits each")
        return self


def check_mtls(request: Request, _keys: Keys, options: MtlsOptions, _now: int) -> None:
    """Believe the proxy, and nobody else, in whose certificate it has checked."""
    if not within(request.client, parsed_networks(options.proxies)):
        raise Forged(f"{request.client} is not among `proxies`")
    if options.verified_header is not None and only(request, options.verified_header) != options.verified_value:
        raise Forged("the proxy did not find the certificate good")
    text = only(request, options.header)
    if len(text) > _MAX_HEADER:
        raise Forged("the header is too long")
    if options.carries == "subject":
        found = {text.strip()}
    elif options.carries == "certificate":
        found = {_fingerprint(text)}
    else:
        found = set(_of_envoy(text))
    allowed = set(options.allow) | {_plain(entry) for entry in options.allow}
    if not found & allowed:
        raise Forged("the certificate is nobody's who may post")


def _plain(fingerprint: str) -> str:
    return fingerprint.replace(":", "").lower()


def _fingerprint(text: str) -> str:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import load_pem_x509_certificate

    return load_pem_x509_certificate(unquote_to_bytes(text)).fingerprint(SHA256()).hex()


def _of_envoy(text: str) -> Iterator[str]:
    """Yield hash, subject, URIs and DNS names of the last element: that of the proxy nearest to us."""
    elements: list[list[str]] = [[]]
    at = 0
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None or found.end() == at:
            raise Forged("the header is not in Envoy's form")
        name, value, end = found[1].lower(), found[2], found[3]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if name == "hash":
            elements[-1].append(value.lower())
        elif name in ("subject", "uri", "dns"):
            elements[-1].append(value)
        if end == ",":
            elements.append([])
        at = found.end()
    yield from elements[-1]


def _proxy_headers(options: MtlsOptions) -> tuple[str, ...]:
    return (options.header,) if options.carries == "certificate" else ()


MTLS = Verifier(
    "mtls",
    "a client certificate, checked by a proxy of yours that says in a header whose it is",
    MtlsOptions,
    check_mtls,
    secret_headers=_proxy_headers,
)
