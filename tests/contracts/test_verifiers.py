"""One contract suite over every verifier of the list: what is changed, old, foreign or odd is 401, and nothing else."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sensors.errors import Refused
from sensors.kind import SensorContext
from sensors.kinds.webhook import WebhookOptions, build
from sensors.sensor import Request
from sensors.testing import VirtualClock
from sensors.verifiers.model import Draft, VerifyOptions
from sensors.verify import VERIFIERS, Verify, verifier_of
from tests.contracts.verifier_case import Case, Vector
from tests.contracts.verifier_cases import CASES
from tests.support.senders import NOW, fetcher

_OPTIONS: TypeAdapter[VerifyOptions] = TypeAdapter(Verify)
_ALL = [pytest.param(verifier.scheme, id=verifier.scheme) for verifier in VERIFIERS]
_TIMED = [pytest.param(name, id=name) for name, case in CASES.items() if case.tolerance is not None]
_PROOFS = [pytest.param(name, header, id=f"{name}:{header}") for name, case in CASES.items() for header in case.proof]
_VECTORS = [
    pytest.param(name, vector, id=f"{name}: {vector.name}") for name, case in CASES.items() for vector in case.vectors
]


async def passes(case: Case, options: Mapping[str, Any], request: Request) -> bool:
    """Say whether a request passes. Whatever else happens than that or a bare 401 is raised."""
    read = _OPTIONS.validate_python(options)
    verifier = verifier_of(read)
    live = verifier.live(read, fetcher(case.pages), VirtualClock()) if verifier.live is not None else None
    if live is not None:
        await live.prepare(request)
    try:
        verifier.bind(read, live)(request)
    except Refused as refused:
        if (refused.status, refused.code, refused.public) != (401, "unverified", ""):
            raise
        return False
    return True


def _with_headers(request: Request, **headers: list[str] | None) -> Request:
    changed = {**request.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return replace(request, headers={name: value for name, value in changed.items() if value is not None})


def test_every_verifier_has_a_case_with_vectors() -> None:
    """No scheme comes without examples and without being tried."""
    assert {verifier.scheme for verifier in VERIFIERS} == set(CASES)
    assert all(any(vector.passes or name == "jwt" for vector in case.vectors) for name, case in CASES.items())


@pytest.mark.parametrize(("scheme", "vector"), _VECTORS)
async def test_vectors(scheme: str, vector: Vector) -> None:
    """What is published passes as published; what differs in one respect does not."""
    assert await passes(CASES[scheme], vector.options, vector.request) is vector.passes


@pytest.mark.parametrize("scheme", _ALL)
async def test_what_the_holder_of_the_secret_sends_passes(scheme: str) -> None:
    """A delivery that is signed as the provider does it is taken."""
    case = CASES[scheme]
    assert await passes(case, case.options, case.sign(b'{"a": 1}', NOW))


@pytest.mark.parametrize("scheme", _ALL)
async def test_a_changed_byte_of_the_body(scheme: str) -> None:
    """Wherever the proof covers the content, one changed bit is refused; where it does not, the content is free."""
    case = CASES[scheme]
    request = case.sign(b'{"a": 1}', NOW)
    for at in range(len(request.body)):
        changed = request.body[:at] + bytes([request.body[at] ^ 1]) + request.body[at + 1 :]
        if scheme == "sns" and at % 7:  # a bit of a long envelope: not all of it has to be tried
            continue
        assert await passes(case, case.options, replace(request, body=changed)) is not case.signs_body


@pytest.mark.parametrize(("scheme", "header"), _PROOFS)
async def test_a_changed_header(scheme: str, header: str) -> None:
    """A proof that differs in one character, is cut, or has something behind it, is none."""
    case = CASES[scheme]
    request = case.sign(b'{"a": 1}', NOW)
    (good,) = request.headers[header]
    at = len(good) // 2 + 2
    flipped = "A" if good[at] != "A" else "B"
    if header.endswith("timestamp") or header == "x-time":
        flipped = "1" if good[at] != "1" else "2"
    for bad in (good[:at] + flipped + good[at + 1 :], good[:-2], good + "x", "", " ", "\xff" + good[1:]):
        assert not await passes(case, case.options, _with_headers(request, **{header: [bad]}))


@pytest.mark.parametrize(("scheme", "header"), _PROOFS)
async def test_a_missing_header(scheme: str, header: str) -> None:
    """Without its proof a request is refused."""
    case = CASES[scheme]
    assert not await passes(case, case.options, _with_headers(case.sign(b"{}", NOW), **{header: None}))


@pytest.mark.parametrize(("scheme", "header"), _PROOFS)
async def test_a_header_that_comes_twice(scheme: str, header: str) -> None:
    """Two proofs would let a sender choose which one is looked at, here and elsewhere; both orders are refused."""
    case = CASES[scheme]
    request = case.sign(b"{}", NOW)
    (good,) = request.headers[header]
    for values in ([good, good], [good, "x"], ["x", good], []):
        assert not await passes(case, case.options, _with_headers(request, **{header: values}))


@pytest.mark.parametrize("scheme", _ALL)
async def test_another_secret_alone_and_both_during_a_rotation(scheme: str) -> None:
    """Under another secret nothing passes; with both live, what either signs does."""
    case = CASES[scheme]
    request = case.sign(b"{}", NOW)
    assert not await passes(case, case.other, request)
    assert await passes(case, case.both, request)


@pytest.mark.parametrize("scheme", _TIMED)
async def test_old_and_future_times(scheme: str) -> None:
    """A signed time passes near our clock, on both sides, and no further."""
    case = CASES[scheme]
    assert case.tolerance is not None
    request = case.sign(b"{}", NOW)
    for offset, good in ((case.tolerance - 1, True), (case.tolerance + 1, False)):
        late = replace(request, received_at=request.received_at + int(offset * 1e6))
        assert await passes(case, case.options, late) is good
    back = 60 if scheme == "jwt" else case.tolerance  # a token may be from the near future only
    for offset, good in ((back - 1, True), (back + 1, False)):
        early = replace(request, received_at=request.received_at - int(offset * 1e6))
        assert await passes(case, case.options, early) is good


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"", b"\x00"], ids=["no UTF-8", "empty", "NUL"])
@pytest.mark.parametrize("scheme", _ALL)
async def test_odd_bodies_are_signed_like_any_other(scheme: str, body: bytes) -> None:
    """The proof is over raw bytes: a body that is no text, or none at all, passes when it is signed."""
    case = CASES[scheme]
    if case.any_body:
        assert await passes(case, case.options, case.sign(body, NOW))
    request = replace(case.sign(b'{"a": 1}', NOW), body=body)
    assert await passes(case, case.options, request) is not case.signs_body


@pytest.mark.parametrize("scheme", _ALL)
async def test_a_replay(scheme: str, tmp_path: Path) -> None:
    """The same delivery again is the same event where the provider names its deliveries, otherwise another one."""
    case = CASES[scheme]
    options = WebhookOptions.model_validate({"path": "/hooks/test", "verify": case.options})
    context = SensorContext("hook", "svc", VirtualClock(), tmp_path, fetch=fetcher(case.pages))
    webhook = build(options, context)
    one, two = [(await webhook.receive(case.sign(b'{"a": 1}', NOW))).events[0] for _ in range(2)]
    assert (one.id == two.id) is case.ids
    assert one.trusted is (scheme != "none")
    assert not any(text in str(one.attributes) for text in ("secret", "signature", "open sesame", "Bearer"))


@pytest.mark.parametrize("scheme", _ALL)
async def test_only_listed_addresses(scheme: str) -> None:
    """`allow_from` narrows every scheme, and believes forwarded addresses only from proxies of ours."""
    case = CASES[scheme]
    request = case.sign(b"{}", NOW)  # from 192.0.2.1
    inside, outside = {"allow_from": ["192.0.2.0/28"]}, {"allow_from": ["198.51.100.0/24", "2001:db8::/32"]}
    assert await passes(case, {**case.options, **inside}, request)
    assert not await passes(case, {**case.options, **outside}, request)
    forwarded = _with_headers(request, x_forwarded_for=["203.0.113.9, 198.51.100.7"])
    if "proxies" not in case.options:
        assert not await passes(case, {**case.options, **outside}, forwarded)
    behind = {**case.options, **outside, "proxies": ["192.0.2.0/24"]}
    assert await passes(case, behind, forwarded)
    forged = _with_headers(request, x_forwarded_for=["198.51.100.7", "203.0.113.9"])
    assert not await passes(case, behind, forged)


@pytest.mark.parametrize("scheme", [verifier.scheme for verifier in VERIFIERS if verifier.sign is not None])
async def test_what_we_sign_passes_our_own_check(scheme: str) -> None:
    """Samples that are sent to try an endpoint are signed as the provider would."""
    case = CASES[scheme]
    read = _OPTIONS.validate_python(case.options)
    verifier = verifier_of(read)
    assert verifier.sign is not None
    body = b"a=1&b=2" if scheme == "twilio" else b'{"a": 1}'
    content_type = "application/x-www-form-urlencoded" if scheme == "twilio" else "application/json"
    draft = Draft(body, "/hooks/test", "x=1", content_type, NOW * 1_000_000, "id-1")
    headers = {"content-type": content_type, **verifier.sign(draft, verifier.keys(read), read)}
    request = replace(case.sign(body, NOW), headers={n: [v] for n, v in headers.items()}, query="x=1")
    assert await passes(case, case.options, request)


_TEXT = st.text(st.characters(max_codepoint=255), max_size=60)
_SHAPES = st.sampled_from(
    [
        *("Bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.e30.", "Basic \udcff", "v1,", "v1a,AA==", "t=1,v1=", "sha256="),
        *("9" * 40, "-1", "１６１４", "v0=", 'By=x;Hash="', "By=,,;;", "%", "-----BEGIN CERTIFICATE-----", "=", "\x00"),
    ]
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("scheme", [verifier.scheme for verifier in VERIFIERS if verifier.proves])
def test_whatever_a_stranger_sends_is_401_and_nothing_else(scheme: str, data: st.DataObject) -> None:
    """No bytes in body, query or headers make a verifier raise anything but 401, or pass."""
    case = CASES[scheme]
    names = st.sampled_from([*case.proof, "content-type", "x-forwarded-for", "x-gitlab-token", "x-verify"])
    request = Request(
        method="POST",
        path="/hooks/test",
        query=data.draw(st.one_of(_TEXT, st.sampled_from(["access_token=x", "bodySHA256=%ff&bodySHA256=", "a=%zz"]))),
        headers=data.draw(st.dictionaries(names, st.lists(st.one_of(_TEXT, _SHAPES), max_size=3), max_size=5)),
        body=data.draw(st.one_of(st.binary(max_size=80), st.sampled_from([b"{}", b"[]", b'{"Type":"Notification"}']))),
        client=data.draw(st.sampled_from(["192.0.2.1", "", "x", "::ffff:192.0.2.1", "\x00"])),
        received_at=NOW * 1_000_000,
    )
    assert not asyncio.run(passes(case, case.options, request))
