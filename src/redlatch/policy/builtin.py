"""Networks that every site has, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from redlatch.policy.networks import Network, compiled, parse

CLOUDFLARE_LIST: Final = "2023-09-28"  # the day of the list at https://www.cloudflare.com/ips/

_ADDRESSES: Final[Mapping[str, str]] = {
    "localhost": "127.0.0.0/8 ::1",
    # RFC 1918, RFC 3927, RFC 4193, RFC 4291 2.5.6: nobody on the internet has one. Not 100.64.0.0/10 (RFC 6598):
    # behind a provider's NAT that is the neighbours.
    "private": "127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 ::1 fc00::/7 fe80::/10",
    "cloudflare": "173.245.48.0/20 103.21.244.0/22 103.22.200.0/22 103.31.4.0/22 141.101.64.0/18 108.162.192.0/18 "
    "190.93.240.0/20 188.114.96.0/20 197.234.240.0/22 198.41.128.0/17 162.158.0.0/15 104.16.0.0/13 104.24.0.0/14 "
    "172.64.0.0/13 131.0.72.0/22 2400:cb00::/32 2606:4700::/32 2803:f800::/32 2405:b500::/32 2405:8100::/32 "
    "2a06:98c0::/29 2c0f:f248::/32",
}
ABOUT: Final[Mapping[str, str]] = {
    "localhost": "this machine itself; also everybody behind a proxy, tunnel or container port on it",
    "private": "addresses that nobody on the internet has",
    "cloudflare": f"Cloudflare's proxies, as listed on {CLOUDFLARE_LIST}: everybody who comes through them",
}
BUILTIN: Final[Mapping[str, Network]] = {
    name: compiled(parse(one) for one in text.split()) for name, text in _ADDRESSES.items()
}


def addresses(name: str) -> tuple[str, ...]:
    """The entries of a built-in network as they were published."""
    return tuple(_ADDRESSES[name].split())
