"""How to try each verifier that belongs to no provider; those of providers stand in `provider_cases`."""

import hashlib
import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from sensors.sensor import Request
from tests.contracts import provider_cases
from tests.contracts.verifier_case import Case, Vector, header, of_slack, secrets
from tests.support import senders
from tests.support.senders import posted

_FINGERPRINT = load_pem_x509_certificate(senders.certificate()).fingerprint(SHA256()).hex()
_MTLS = {"scheme": "mtls", "header": "x-client-dn", "proxies": ["192.0.2.0/24"]}
_JWT = {"scheme": "jwt", "issuer": senders.ISSUER, "audience": "tidegate"}


def _hmac(body: bytes, seconds: int) -> Request:
    signature = hmac.new(b"secret", f"{seconds}.".encode() + body, hashlib.sha512).hexdigest()
    return posted(body, {"x-sig": f"sha512={signature}", "x-time": str(seconds)}, seconds)


CASES: dict[str, Case] = {
    **provider_cases.CASES,
    "none": Case(
        options={"scheme": "none"},
        sign=lambda body, seconds: posted(body, {}, seconds),
        other={"scheme": "none", "allow_from": ["198.51.100.0/24"]},
        both={"scheme": "none", "allow_from": ["198.51.100.0/24", "192.0.2.1"]},
        proof=(),
        vectors=(Vector("anybody", {"scheme": "none"}, posted(b"", {})),),
        signs_body=False,
    ),
    "bearer": Case(
        **secrets({"scheme": "bearer"}),
        sign=header("authorization", "Bearer secret"),
        proof=("authorization",),
        signs_body=False,
        vectors=(
            Vector(
                "RFC 6750 §2.1",
                {"scheme": "bearer", "secret": "mF_9.B5f-4.1JqM"},
                posted(b"", {"authorization": "Bearer mF_9.B5f-4.1JqM"}),
            ),
            Vector(
                "RFC 6750 §2.3",
                {"scheme": "bearer", "secret": "mF_9.B5f-4.1JqM"},
                posted(b"", {}, query="access_token=mF_9.B5f-4.1JqM&p=q"),
            ),
            Vector(
                "two tokens",
                {"scheme": "bearer", "secret": "x"},
                posted(b"", {"authorization": "Bearer x"}, query="access_token=x"),
                passes=False,
            ),
        ),
    ),
    "basic": Case(
        **secrets({"scheme": "basic", "username": "Aladdin"}, "open sesame", "closed"),
        sign=header("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        proof=("authorization",),
        signs_body=False,
        vectors=(
            Vector(
                "RFC 7617 §2",
                {"scheme": "basic", "username": "Aladdin", "secret": "open sesame"},
                posted(b"", {"authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}),
            ),
        ),
    ),
    "api-key": Case(
        **secrets({"scheme": "api-key", "header": "X-Key"}),
        sign=header("x-key", "secret"),
        proof=("x-key",),
        signs_body=False,
        vectors=(Vector("the default header", {"scheme": "api-key", "secret": "k"}, posted(b"", {"x-api-key": "k"})),),
    ),
    "hmac": Case(
        **secrets(
            {
                "scheme": "hmac",
                "header": "X-Sig",
                "prefix": "sha512=",
                "algorithm": "sha512",
                "timestamp_header": "X-Time",
            }
        ),
        sign=_hmac,
        proof=("x-sig", "x-time"),
        tolerance=300.0,
        vectors=(
            Vector(
                "RFC 4231 case 2",
                {"scheme": "hmac", "header": "x-sig", "secret": "Jefe"},
                posted(
                    b"what do ya want for nothing?",
                    {"x-sig": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
                ),
            ),
            of_slack(
                {
                    "scheme": "hmac",
                    "header": "X-Slack-Signature",
                    "prefix": "v0=",
                    "timestamp_header": "X-Slack-Request-Timestamp",
                    "template": "v0:{timestamp}:{body}",
                }
            ),
        ),
    ),
    "jwt": Case(
        options={**_JWT, "jwks_url": "https://issuer.example.com/keys"},
        sign=lambda body, seconds: posted(
            body, {"authorization": f"Bearer {senders.token(seconds, kid='k1')}"}, seconds
        ),
        other={**_JWT, "key": senders.public_pem("two")},
        both={**_JWT, "key": [senders.public_pem("two"), senders.public_pem()]},
        proof=("authorization",),
        tolerance=360.0,  # good for 300 s, and 60 s of leeway
        signs_body=False,
        pages={
            "https://issuer.example.com/keys": senders.jwks(k1="one"),
            "https://issuer.example.com/.well-known/openid-configuration": (
                b'{"issuer": "https://issuer.example.com", "jwks_uri": "https://issuer.example.com/keys"}'
            ),
        },
        vectors=(
            Vector(
                "the issuer is asked",
                _JWT,
                posted(b"", {"authorization": "Bearer " + senders.token(kid="k1")}),
            ),
            Vector(
                "RFC 7515 §A.1, whose token names no audience",
                {
                    "scheme": "jwt",
                    "issuer": "joe",
                    "audience": "any",
                    "algorithms": ["HS256"],
                    "secret": "x" * 64,
                },
                posted(
                    b"",
                    {
                        "authorization": "Bearer eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAi"
                        "OjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
                        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
                    },
                    1300819370,
                ),
                passes=False,
            ),
        ),
    ),
    "mtls": Case(
        options={**_MTLS, "allow": ["CN=orders,O=acme"]},
        sign=header("x-client-dn", "CN=orders,O=acme"),
        other={**_MTLS, "allow": ["CN=orders,O=evil"]},
        both={**_MTLS, "allow": ["CN=orders,O=evil", "CN=orders,O=acme"]},
        proof=("x-client-dn",),
        signs_body=False,
        vectors=(
            Vector(
                "Envoy's documented header",
                {
                    **_MTLS,
                    "header": "x-forwarded-client-cert",
                    "carries": "xfcc",
                    "allow": ["http://testclient.lyft.com"],
                },
                posted(
                    b"",
                    {
                        "x-forwarded-client-cert": "By=http://frontend.lyft.com;Hash=468ed33be74eee6556d90c0149c1309e9ba61"
                        'd6425303443c0748a02dd8de688;Subject="/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client";'
                        "URI=http://testclient.lyft.com"
                    },
                ),
            ),
            Vector(
                "nginx' escaped certificate",
                {**_MTLS, "carries": "certificate", "allow": [_FINGERPRINT.upper()]},
                posted(b"", {"x-client-dn": senders.certificate().decode().replace("\n", "%0A").replace(" ", "%20")}),
            ),
            Vector(
                "a header from somebody who is no proxy of ours",
                {**_MTLS, "proxies": ["198.51.100.0/24"], "allow": ["CN=a"]},
                posted(b"", {"x-client-dn": "CN=a"}),
                passes=False,
            ),
            Vector(
                "a proxy that did not find the certificate good",
                {**_MTLS, "allow": ["CN=a"], "verified_header": "x-verify"},
                posted(b"", {"x-client-dn": "CN=a", "x-verify": "FAILED"}),
                passes=False,
            ),
        ),
    ),
}
