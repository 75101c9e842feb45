"""Verifiers: the public test vectors, rotation, both-sided windows, and hostile input that is 401 and nothing else."""

import base64
import hashlib
import hmac as hmac_lib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sensors.errors import Refused
from sensors.testing import make_request
from sensors.verifiers.model import Bound, VerifyOptions
from sensors.verify import VERIFIERS, Verify, verifier_of

_OPTIONS: TypeAdapter[VerifyOptions] = TypeAdapter(Verify)
_SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a1"
    b"4d10d2c447fce8b6703c"
)
_STANDARD = {"scheme": "standard-webhooks", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_STANDARD_HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
_GITHUB = {"scheme": "github", "secret": "It's a Secret to Everybody"}
_GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
_SLACK = {
    "scheme": "hmac",
    "secret": "8f742231b10e8888abcd99yyyzzz85a5",
    "header": "X-Slack-Signature",
    "prefix": "v0=",
    "timestamp_header": "X-Slack-Request-Timestamp",
    "template": "v0:{timestamp}:{body}",
}


def _bound(options: Mapping[str, Any]) -> Bound:
    read = _OPTIONS.validate_python(options)
    return verifier_of(read).bind(read)


def _passes(
    options: Mapping[str, Any], body: bytes, headers: Mapping[str, str | Sequence[str]], seconds: float = 1_800_000_000
) -> bool:
    try:
        _bound(options)(make_request(body, headers, received_at=round(seconds * 1_000_000)))
    except Refused as refused:
        if (refused.status, refused.public) != (401, ""):
            raise
        return False
    return True


def test_schemes_are_listed_once_and_found_by_their_options() -> None:
    """Each scheme of the one list is reachable through the option type, and none occurs twice."""
    schemes = [verifier.scheme for verifier in VERIFIERS]
    assert len(set(schemes)) == len(schemes) == 15
    assert verifier_of(_OPTIONS.validate_python(_GITHUB)).scheme == "github"
    assert all(verifier.help for verifier in VERIFIERS)
    with pytest.raises(LookupError):
        verifier_of(VerifyOptions())


def test_standard_webhooks_vector() -> None:
    """The specification's own example passes at its time."""
    assert _passes(_STANDARD, b'{"test": 2432232314}', _STANDARD_HEADERS, 1614265330)


def test_github_vector() -> None:
    """GitHub's documented example passes."""
    assert _passes(_GITHUB, b"Hello, World!", {"x-hub-signature-256": _GITHUB_SIGNATURE})


def test_slack_vector_by_generic_hmac() -> None:
    """Slack's documented example passes with prefix, timestamp and template spelled out."""
    headers = {
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "x-slack-request-timestamp": "1531420618",
    }
    assert _passes(_SLACK, _SLACK_BODY, headers, 1531420618)
    assert not _passes(_SLACK, _SLACK_BODY + b"x", headers, 1531420618)


@pytest.mark.parametrize(("offset", "passes"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_the_window_has_two_sides(offset: int, passes: bool) -> None:
    """A signed time five minutes from ours passes on both sides, more on neither."""
    assert _passes(_STANDARD, b'{"test": 2432232314}', _STANDARD_HEADERS, 1614265330 + offset) is passes


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sig="])
def test_generic_hmac_in_all_its_forms(algorithm: str, encoding: str, prefix: str) -> None:
    """Every combination of algorithm, encoding and prefix takes its own signature and no other body's."""
    raw = hmac_lib.new(b"key", b"body", algorithm).digest()
    text = prefix + (raw.hex() if encoding == "hex" else base64.b64encode(raw).decode())
    options = {
        "scheme": "hmac",
        "secret": "key",
        "header": "X-Sig",
        "algorithm": algorithm,
        "encoding": encoding,
        "prefix": prefix,
    }
    assert _passes(options, b"body", {"x-sig": text})
    assert not _passes(options, b"bodY", {"x-sig": text})
    assert not _passes(options, b"body", {"x-sig": text[:-2]})
    assert not _passes(options, b"body", {"x-sig": [text, text]})
    assert not _passes(options, b"body", {})
    if encoding == "hex":
        assert _passes(options, b"body", {"x-sig": prefix + raw.hex().upper()})


@pytest.mark.parametrize(
    ("options", "body", "headers", "seconds"),
    [
        (_GITHUB, b"Hello, World!", {"x-hub-signature-256": _GITHUB_SIGNATURE}, 1),
        (_STANDARD, b'{"test": 2432232314}', _STANDARD_HEADERS, 1614265330),
        ({"scheme": "bearer", "secret": "t0ken"}, b"", {"authorization": "Bearer t0ken"}, 1),
        (
            {"scheme": "basic", "secret": "pw", "username": "u"},
            b"",
            {"authorization": "Basic " + base64.b64encode(b"u:pw").decode()},
            1,
        ),
    ],
    ids=["github", "standard-webhooks", "bearer", "basic"],
)
def test_several_secrets_live_during_rotation(
    options: dict[str, Any], body: bytes, headers: dict[str, str], seconds: int
) -> None:
    """Any of the live secrets passes, wherever it stands; another alone does not."""
    other = "whsec_" + base64.b64encode(b"x" * 24).decode()
    assert _passes({**options, "secret": [other, options["secret"]]}, body, headers, seconds)
    assert _passes({**options, "secret": [options["secret"], other]}, body, headers, seconds)
    assert not _passes({**options, "secret": [other]}, body, headers, seconds)


def test_one_of_several_signatures_is_enough() -> None:
    """A sender that rotates sends several signatures; other versions are ignored, and there is a bound."""
    good = _STANDARD_HEADERS["webhook-signature"]
    for text, passes in [(f"v1,AAAA {good} v1a,zzz", True), ("v1a," + good[3:], False), (" ".join([good] * 17), False)]:
        headers = {**_STANDARD_HEADERS, "webhook-signature": text}
        assert _passes(_STANDARD, b'{"test": 2432232314}', headers, 1614265330) is passes


def test_parts_of_a_signed_text_cannot_be_shifted() -> None:
    """An id with a dot would let id and timestamp trade characters; it is refused."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = base64.b64encode(hmac_lib.digest(key, b"a.1.1614265330.x", "sha256")).decode()
    headers = {"webhook-id": "a.1", "webhook-timestamp": "1614265330", "webhook-signature": f"v1,{signature}"}
    assert not _passes(_STANDARD, b"x", headers, 1614265330)


@pytest.mark.parametrize(
    ("header", "passes"),
    [
        ("Bearer t0ken", True),
        ("bearer  t0ken ", True),
        ("Bearer t0kem", False),
        ("Bearer ", False),
        ("Basic t0ken", False),
        ("t0ken", False),
        ("", False),
    ],
)
def test_bearer(header: str, passes: bool) -> None:
    """The scheme's name is case-insensitive, the token is exact."""
    assert _passes({"scheme": "bearer", "secret": "t0ken"}, b"", {"authorization": header}) is passes


@pytest.mark.parametrize(
    ("credentials", "passes"),
    [(b"u:pw", True), (b"u:p:w", False), (b"v:pw", False), (b"u:", False), (b"upw", False)],
)
def test_basic(credentials: bytes, passes: bool) -> None:
    """User name and password must both be right."""
    header = "Basic " + base64.b64encode(credentials).decode()
    assert _passes({"scheme": "basic", "secret": "pw", "username": "u"}, b"", {"authorization": header}) is passes


def test_a_secret_in_utf8_is_compared_by_its_bytes() -> None:
    """A header's bytes come as Latin-1 text; a token beyond ASCII still fits."""
    header = "Bearer " + "smørbrød".encode().decode("latin-1")
    assert _passes({"scheme": "bearer", "secret": "smørbrød"}, b"", {"authorization": header})


def test_a_refusal_names_the_challenge_and_no_reason() -> None:
    """401 answers say which scheme to use, and the sentence stays with the operator."""
    with pytest.raises(Refused, match="bearer: the bearer token is wrong") as refused:
        _bound({"scheme": "bearer", "secret": "x"})(make_request(headers={"authorization": "Bearer y"}))
    assert refused.value.headers == {"www-authenticate": "Bearer"}
    assert refused.value.public == ""


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "github"},
        {"scheme": "github", "secret": ""},
        {"scheme": "github", "secret": "  "},
        {"scheme": "github", "secret": []},
        {"scheme": "github", "secret": ["a", ""]},
        {"scheme": "md5", "secret": "x"},
        {"secret": "x"},
        {},
        {"scheme": "hmac", "secret": "x"},
        {"scheme": "hmac", "secret": "x", "header": "h", "algorithm": "md5"},
        {"scheme": "hmac", "secret": "x", "header": "h", "timestamp_header": "t", "template": "{timestamp}"},
        {
            "scheme": "hmac",
            "secret": "x",
            "header": "h",
            "timestamp_header": "t",
            "template": "{body}{body}{timestamp}",
        },
        {"scheme": "basic", "secret": "x"},
        {"scheme": "none", "secret": "x"},
        {"scheme": "github", "secret": "x", "sceret": "y"},
        "bearer",
        None,
    ],
)
def test_what_cannot_verify_is_a_configuration_error(options: Any) -> None:
    """A missing or empty secret, an unknown scheme or a template that does not fit is refused at load."""
    with pytest.raises(ValidationError):
        _OPTIONS.validate_python(options)


@pytest.mark.parametrize(
    ("secret", "sentence"),
    [("whpk_AAAA", "32 bytes"), ("whsk_AAAA", "32 or 64"), ("whsec_***", "base64"), ("whsec_", "empty behind")],
)
def test_a_secret_of_the_wrong_form_is_named(secret: str, sentence: str) -> None:
    """A key that cannot be one is refused when the sensor is built, without telling it."""
    options = _OPTIONS.validate_python({"scheme": "standard-webhooks", "secret": secret})
    with pytest.raises(ValueError, match=sentence) as refused:
        verifier_of(options).bind(options)
    assert "***" not in str(refused.value)


def test_none_must_be_written_out() -> None:
    """`none` and `{scheme: none}` let everybody in; saying nothing is an error."""
    for written in ("none", {"scheme": "none"}):
        options = _OPTIONS.validate_python(written)
        verifier_of(options).bind(options)(make_request())
        assert not verifier_of(options).proves


def test_secrets_are_in_no_repr() -> None:
    """No option's text, dump or schema shows a secret."""
    several: dict[str, Any] = {"scheme": "basic", "secret": ["geheim", "uralt"], "username": "u"}
    for written in (_STANDARD, _GITHUB, _SLACK, several):
        options = _OPTIONS.validate_python(written)
        text = repr(options) + str(options) + options.model_dump_json()
        secrets = written["secret"] if written is several else [written["secret"]]
        assert not any(secret in text for secret in secrets)


_ANY_OPTIONS = st.sampled_from(
    [
        _STANDARD,
        _GITHUB,
        _SLACK,
        {"scheme": "bearer", "secret": "t"},
        {"scheme": "basic", "secret": "t", "username": "u"},
        {"scheme": "hmac", "secret": "x", "header": "x-hub-signature-256", "encoding": "base64"},
    ]
)
_NAMES = st.sampled_from(
    (
        *("authorization", "x-hub-signature-256", "x-slack-signature", "x-slack-request-timestamp"),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    )
)
_VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["v1,", "v1,=", "Basic \udcff", "Bearer \x00", "sha256=", "v0=", "9" * 40, "-1", "１６１４"]),
)


@given(_ANY_OPTIONS, st.binary(max_size=64), st.dictionaries(_NAMES, st.lists(_VALUES, min_size=1, max_size=3)))
def test_whatever_a_stranger_sends_is_401_and_nothing_else(
    options: Mapping[str, Any], body: bytes, headers: dict[str, list[str]]
) -> None:
    """No header or body makes a verifier raise anything but 401, or pass."""
    assert not _passes(options, body, headers)


@given(st.binary(max_size=200), st.text(min_size=1, max_size=40).filter(str.strip))
def test_what_the_holder_of_the_secret_signs_passes(body: bytes, secret: str) -> None:
    """Any body under any secret passes with its signature, and fails with one bit of it changed."""
    secret_text = secret.encode("utf-8", "ignore").decode() or "x"
    if not secret_text.strip():
        secret_text = "x"
    reference = hmac_lib.new(secret_text.encode(), body, hashlib.sha256).hexdigest()
    options = {"scheme": "github", "secret": secret_text}
    flipped = ("0" if reference[0] != "0" else "1") + reference[1:]

    assert _passes(options, body, {"x-hub-signature-256": f"sha256={reference}"})
    assert not _passes(options, body, {"x-hub-signature-256": f"sha256={flipped}"})
