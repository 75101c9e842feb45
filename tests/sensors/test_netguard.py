from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.netguard import NetGuard

REFUSED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.19.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001:db8::1",
    "2001::1",
    "2002:a00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::",
    "fe80::1",
    "fe80::1%1",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
]


@pytest.mark.parametrize("host", REFUSED)
def test_special_ranges_are_refused(host: str) -> None:
    """Every range that is not public is refused when nothing is allowed."""
    assert NetGuard().refuses(host) is not None


@pytest.mark.parametrize("host", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_pass(host: str) -> None:
    """Public addresses may be called."""
    assert NetGuard().refuses(host) is None


@pytest.mark.parametrize("host", NEVER)
def test_metadata_never_passes(host: str) -> None:
    """Link-local and metadata addresses are refused even when everything is allowed."""
    assert "never" in (NetGuard(("0.0.0.0/0", "::/0")).refuses(host) or "")


def test_allow_opens_exactly_its_ranges() -> None:
    """A private address passes when its range is allowed, its neighbour does not, and the refusal names the remedy."""
    guard = NetGuard(("10.1.0.0/16", "::1/128"))

    assert guard.refuses("10.1.2.3") is None
    assert guard.refuses("::ffff:10.1.2.3") is None
    assert guard.refuses("::1") is None
    assert "network.allow" in (guard.refuses("10.2.0.1") or "")


def test_names_and_wrong_ranges_are_refused() -> None:
    """What is no numeric address cannot pass, and what is no network is an error that names it."""
    assert NetGuard().refuses("localhost") is not None
    with pytest.raises(ValueError, match="'ten' is not a network"):
        NetGuard(("ten",))


@given(st.ip_addresses())
def test_what_passes_is_global(address: IPv4Address | IPv6Address) -> None:
    """Nothing that the standard library calls private, loopback, multicast, reserved or link-local passes."""
    if NetGuard().refuses(str(address)) is None:
        inner = ip_address(address)
        if isinstance(inner, IPv6Address) and inner.ipv4_mapped is not None:
            inner = inner.ipv4_mapped
        assert not inner.is_private
        assert not inner.is_loopback
        assert not inner.is_link_local
        assert not inner.is_multicast
        assert not inner.is_unspecified


@given(st.ip_addresses(v=4))
def test_mapped_addresses_are_judged_as_what_they_are(address: IPv4Address) -> None:
    """An IPv4-mapped IPv6 address is judged like the IPv4 address in it."""
    guard = NetGuard(("192.168.0.0/16",))

    assert (guard.refuses(f"::ffff:{address}") is None) == (guard.refuses(str(address)) is None)
