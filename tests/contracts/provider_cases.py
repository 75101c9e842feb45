"""How to try each verifier of a provider, and of the standard that several follow."""

import base64
import hashlib
import hmac

from sensors.sensor import Request
from tests.contracts.verifier_case import Case, Vector, of_slack, secrets, whsec
from tests.support import senders
from tests.support.senders import NOW, posted

_STANDARD = {"scheme": "standard-webhooks", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_STANDARD_VECTOR = posted(
    b'{"test": 2432232314}',
    {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    1614265330,
)
_TWILIO = {"scheme": "twilio", "url": "https://mycompany.com", "secret": "12345"}
_TWILIO_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
_TWILIO_JSON = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"


def _gitlab(body: bytes, seconds: int) -> Request:
    return senders.standard(body, seconds, x_gitlab_event="Push Hook")


CASES: dict[str, Case] = {
    "github": Case(
        **secrets({"scheme": "github"}),
        sign=senders.hub,
        proof=("x-hub-signature-256",),
        ids=True,
        vectors=(
            Vector(
                "GitHub's documented example",
                {"scheme": "github", "secret": "It's a Secret to Everybody"},
                posted(
                    b"Hello, World!",
                    {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
                ),
            ),
        ),
    ),
    "gitlab": Case(
        **secrets({"scheme": "gitlab", "signed": True}, whsec(b"k" * 24), whsec(b"x" * 24)),
        sign=_gitlab,
        proof=("webhook-id", "webhook-timestamp", "webhook-signature"),
        tolerance=300.0,
        ids=True,
        vectors=(
            Vector("the token", {"scheme": "gitlab", "secret": "t0ken"}, posted(b"{}", {"x-gitlab-token": "t0ken"})),
            Vector(
                "another token",
                {"scheme": "gitlab", "secret": "t0ken"},
                posted(b"{}", {"x-gitlab-token": "t0kem"}),
                passes=False,
            ),
            Vector(
                "a token where a signature is asked for",
                {"scheme": "gitlab", "secret": whsec(b"k" * 24), "signed": True},
                posted(b"{}", {"x-gitlab-token": whsec(b"k" * 24)}),
                passes=False,
            ),
            Vector(
                "the vector of Standard Webhooks", {**_STANDARD, "scheme": "gitlab", "signed": True}, _STANDARD_VECTOR
            ),
        ),
    ),
    "standard-webhooks": Case(
        **secrets({"scheme": "standard-webhooks"}, whsec(b"k" * 24), whsec(b"x" * 24)),
        sign=senders.standard,
        proof=("webhook-id", "webhook-timestamp", "webhook-signature"),
        tolerance=300.0,
        ids=True,
        vectors=(
            Vector("the specification's example", _STANDARD, _STANDARD_VECTOR),
            Vector(
                "v1a",
                {"scheme": "standard-webhooks", "secret": senders.whpk()},
                senders.standard_ed(b"\xff{}", NOW),
            ),
            Vector(
                "v1a during a rotation from v1",
                {"scheme": "standard-webhooks", "secret": [whsec(b"x" * 24), senders.whpk("two"), senders.whpk()]},
                senders.standard_ed(b"{}", NOW),
            ),
            Vector(
                "v1a under another key",
                {"scheme": "standard-webhooks", "secret": senders.whpk("two")},
                senders.standard_ed(b"{}", NOW),
                passes=False,
            ),
            Vector(
                "v1 under the public key, which everybody knows",
                {"scheme": "standard-webhooks", "secret": senders.whpk()},
                senders.standard(b"{}", NOW, base64.b64decode(senders.whpk()[5:])),
                passes=False,
            ),
        ),
    ),
    "stripe": Case(
        **secrets({"scheme": "stripe"}, "whsec_one", "whsec_two"),
        sign=senders.stripe,
        proof=("stripe-signature",),
        tolerance=300.0,
        vectors=(
            Vector(
                "several signatures, one of them right",
                {"scheme": "stripe", "secret": "whsec_one"},
                posted(
                    b"{}",
                    {
                        "stripe-signature": f"t={NOW},v1={'0' * 64},v1="
                        + hmac.new(b"whsec_one", f"{NOW}.{{}}".encode(), hashlib.sha256).hexdigest()
                    },
                ),
            ),
            Vector(
                "the right signature under the test scheme v0",
                {"scheme": "stripe", "secret": "whsec_one"},
                posted(
                    b"{}",
                    {
                        "stripe-signature": f"t={NOW},v0="
                        + hmac.new(b"whsec_one", f"{NOW}.{{}}".encode(), hashlib.sha256).hexdigest()
                    },
                ),
                passes=False,
            ),
        ),
    ),
    "slack": Case(
        **secrets({"scheme": "slack"}),
        sign=senders.slack,
        proof=("x-slack-signature", "x-slack-request-timestamp"),
        tolerance=300.0,
        vectors=(of_slack({"scheme": "slack"}),),
    ),
    "shopify": Case(
        **secrets({"scheme": "shopify"}),
        sign=senders.shopify,
        proof=("x-shopify-hmac-sha256",),
        ids=True,
        vectors=(
            Vector(
                "a published example",
                {"scheme": "shopify", "secret": "test-webhook-secret"},
                posted(
                    b'{"id":1234567890,"email":"customer@example.com","total_price":"123.45"}',
                    {"x-shopify-hmac-sha256": "QNyObTlKbMx2qDlPF/ZOZcBqg5OgPg+2oky3zldc0Gw="},
                ),
            ),
        ),
    ),
    "twilio": Case(
        **secrets({"scheme": "twilio", "url": "https://hooks.example.com/"}),
        sign=senders.twilio,
        proof=("x-twilio-signature",),
        ids=True,
        vectors=(
            *(
                Vector(
                    f"Twilio's documented example with {number}",
                    _TWILIO,
                    senders.twilio_form(
                        b"To=%2B18005551212&CallSid=CA1234567890ABCDE&Digits=1234"
                        + f"&From=%2B{number}&Caller=%2B{number}".encode(),
                        signature,
                        _TWILIO_URL,
                    ),
                )
                for number, signature in (
                    ("14158675309", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
                    ("12349013030", "0/KCTR6DLpKmkAf8muzZqo1nDgQ="),
                )
            ),
            Vector(
                "names that repeat",
                _TWILIO,
                senders.twilio_form(
                    b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
                    "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
                    _TWILIO_URL,
                ),
            ),
            Vector(
                "the hash of a JSON body in the URL",
                _TWILIO,
                posted(
                    b'{"property": "value", "boolean": true}',
                    {"x-twilio-signature": "a9nBmqA0ju/hNViExpshrM61xv4="},
                    path="/myapp.php",
                    query=f"foo=1&bar=2&bodySHA256={_TWILIO_JSON}",
                ),
            ),
            Vector(
                "a JSON body that nobody signed",
                _TWILIO,
                posted(
                    b"{}",
                    {
                        "x-twilio-signature": base64.b64encode(
                            hmac.new(b"12345", _TWILIO_URL.encode(), hashlib.sha1).digest()
                        ).decode()
                    },
                    path="/myapp.php",
                    query="foo=1&bar=2",
                ),
                passes=False,
            ),
        ),
    ),
    "sns": Case(
        options={"scheme": "sns", "topics": [senders.TOPIC]},
        sign=senders.sns,
        other={"scheme": "sns", "topics": [senders.TOPIC + "2"]},
        both={"scheme": "sns", "topics": [senders.TOPIC + "2", senders.TOPIC]},
        proof=(),
        tolerance=3600.0,
        any_body=False,
        ids=True,
        pages={senders.CERTIFICATE_URL: senders.certificate()},
        vectors=(
            Vector("version 1", {"scheme": "sns", "topics": [senders.TOPIC]}, senders.sns(b"{}", NOW, version="1")),
            Vector(
                "with a subject",
                {"scheme": "sns", "topics": [senders.TOPIC]},
                senders.sns(b"text", NOW, Subject="hello"),
            ),
            Vector(
                "version 1 where it is not taken",
                {"scheme": "sns", "topics": [senders.TOPIC], "versions": ["2"]},
                senders.sns(b"{}", NOW, version="1"),
                passes=False,
            ),
            Vector(
                "signed under another key",
                {"scheme": "sns", "topics": [senders.TOPIC]},
                senders.sns(b"{}", NOW, "two"),
                passes=False,
            ),
        ),
    ),
}
