"""Where a request comes from: networks, and the address that stands behind proxies of ours. Pure.

A forwarded address is believed only as far as the proxies that wrote it are ours: from the right, the first address
that is no proxy is the sender.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from sensors.sensor import Request

Network = IPv4Network | IPv6Network
_MAX_HOPS = 32


def check_networks(texts: Sequence[str]) -> None:
    """Raise ValueError with a sentence for a text that is no network."""
    for text in texts:
        try:
            ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{text!r} is not a network; write it as 192.0.2.0/24 or 192.0.2.7") from None


def within(address: str, networks: Sequence[Network]) -> bool:
    """Say whether an address lies in one of the networks; text that is no address lies in none."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return _contains(parsed, networks)


def _contains(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


@lru_cache(maxsize=64)
def parsed_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Return the networks of checked texts."""
    return tuple(ip_network(text, strict=False) for text in texts)


def sender_of(request: Request, proxies: Sequence[Network]) -> str:
    """Return the address that stands behind our proxies: the peer itself, unless that is one of them."""
    if not proxies or not within(request.client, proxies):
        return request.client
    hops = [hop.strip() for value in request.headers.get("x-forwarded-for", ()) for hop in value.split(",")]
    for hop in reversed(hops[-_MAX_HOPS:]):
        if not within(hop, proxies):
            return hop
    return request.client


def from_allowed(allowed: tuple[str, ...], proxies: tuple[str, ...]) -> Callable[[Request], bool]:
    """Return a function that says whether a request comes from an allowed address."""
    networks, ours = parsed_networks(allowed), parsed_networks(proxies)

    def inside(request: Request) -> bool:
        return within(sender_of(request, ours), networks)

    return inside
