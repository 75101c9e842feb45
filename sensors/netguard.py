"""Which addresses outgoing calls may reach: the guard against calls into our own network.

In goes the address that a socket is about to be connected to (never a name: a name may resolve to something else a
moment later); out comes None, or the sentence that says why the call is refused. Pure; sensors and engines share it.

Public addresses pass. Private and special ranges pass only when `network.allow` names them. Link-local addresses and
the cloud providers' metadata services never pass, whatever `network.allow` says: they hand credentials to whoever asks.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

ALLOW_KEY = "network.allow"

_NEVER = (
    "169.254.0.0/16",  # link-local, with the metadata service of most clouds
    "168.63.129.16/32",  # Azure's wire server
    "100.100.100.200/32",  # Alibaba's metadata service
    "192.0.0.192/32",  # Oracle's metadata service
    "fe80::/10",
    "fd00:ec2::254/128",  # Amazon's metadata service
    "fd20:ce::254/128",  # Google's metadata service
)
_DENIED = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",  # with broadcast
    "::/96",  # unspecified, loopback, and the deprecated IPv4-compatible form
    "::ffff:0:0:0/96",  # IPv4-translated
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",  # Teredo, ORCHID and other protocol assignments
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fec0::/10",
    "ff00::/8",
)
# Prefixes whose addresses carry an IPv4 address that a translator would connect to: (prefix, bits right of it).
_CARRIERS = (("::/96", 0), ("::ffff:0:0:0/96", 0), ("64:ff9b::/96", 0), ("2002::/16", 80))


def parse_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Read CIDR texts (`10.1.0.0/16`, `::1/128`); ValueError names the one that is none."""
    networks = []
    for text in texts:
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError as error:
            raise ValueError(f"{ALLOW_KEY}: {text!r} is not a network; write it as 10.1.0.0/16") from error
    return tuple(networks)


class NetGuard:
    """Judges addresses. `allow` are CIDR texts of ranges that may be reached although they are not public."""

    def __init__(self, allow: tuple[str, ...] = ()) -> None:
        self._allow = parse_networks(allow)
        self._never = parse_networks(_NEVER)
        self._denied = parse_networks(_DENIED)
        self._carriers = tuple((ip_network(text), shift) for text, shift in _CARRIERS)

    def refuses(self, host: str) -> str | None:
        """Return why the address `host` (numeric text, a scope id is allowed) may not be called; None when it may."""
        try:
            address = ip_address(host)
        except ValueError:
            return f"{host!r} is not a numeric address, so it cannot be checked against {ALLOW_KEY}"
        if isinstance(address, IPv6Address):
            if address.ipv4_mapped is not None:
                address = address.ipv4_mapped
            elif address.scope_id is not None:
                address = IPv6Address(int(address))
        carried = self._carried(address)
        for candidate in (address, carried):
            if candidate is not None and _within(candidate, self._never):
                return f"{host} is a link-local or metadata address; those are never called, whatever {ALLOW_KEY} says"
        if not _within(address, self._denied) or _within(address, self._allow):
            return None
        return f"{host} is not a public address; to call it on purpose, add its range to {ALLOW_KEY}"

    def _carried(self, address: Address) -> IPv4Address | None:
        if isinstance(address, IPv6Address):
            for prefix, shift in self._carriers:
                if address in prefix:
                    return IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
        return None


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
