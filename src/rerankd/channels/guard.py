"""Which destinations a channel may have: an address is judged by what it means, whatever way it is written.

Addresses at which clouds hand out credentials are refused always; everything that is not the public internet is refused
unless the channel says `allow_private`. A name is judged by each address that it resolves to, at the time of connecting,
and only judged addresses are connected to: what a name meant a moment ago is of no interest.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from rerankd.errors import BadSettings, UpstreamUnavailable

Address = IPv4Address | IPv6Address

METADATA: Sequence[IPv4Network | IPv6Network] = (
    IPv4Network("169.254.0.0/16"),  # AWS, Google, Azure, Tencent and most others
    IPv4Network("168.63.129.16/32"),  # Azure's host
    IPv4Network("100.100.100.200/32"),  # Alibaba Cloud
    IPv4Network("192.0.0.192/32"),  # Oracle
    IPv6Network("fd00:ec2::/32"),  # AWS
    IPv6Network("fd20:ce::254/128"),  # Google
    IPv6Network("fd00:42::42/128"),  # Scaleway
    IPv6Network("fe80::a9fe:a9fe/128"),  # OpenStack
)
METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "metadata.packet.net"}
)
PRIVATE_4 = tuple(
    map(
        IPv4Network,
        (
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
            "224.0.0.0/3",
        ),
    )
)
PUBLIC_6 = IPv6Network("2000::/3")
SPECIAL_6 = (IPv6Network("2001::/23"), IPv6Network("2001:db8::/32"), IPv6Network("3fff::/20"))
"""What the registries of IANA keep for special purposes; written out, since ipaddress's own lists differ by version."""

LOW_32 = 2**32 - 1
CARRIERS: Sequence[tuple[IPv6Network, int]] = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)
"""IPv6 addresses that mean an IPv4 address, and by how many bits it stands from the right."""
ISATAP = (0x00005EFE, 0x02005EFE)
TEREDO = IPv6Network("2001::/32")
COMPATIBLE = IPv6Network("::/96")
LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")


@lru_cache(maxsize=1024)  # what passes is remembered; it depends on nothing but the text
def check_url(url: str, *, allow_private: bool) -> None:
    """Raises `BadSettings` where `url` cannot be a destination: it is no plain HTTP address, or one that is refused.

    A host that is a name is judged again when it is connected to, by `GuardedResolver`.
    """
    host = _host(url)
    address = literal(host)
    name = host.rstrip(".").lower()
    if address is not None:
        reason = refusal(address, allow_private=allow_private)
    elif name in METADATA_NAMES:
        reason = "it is where a cloud hands out credentials"
    elif not allow_private and (name == "localhost" or name.endswith(".localhost")):
        reason = "it is this machine, which allow_private = true would permit"
    else:
        reason = None
    if reason is not None:
        raise BadSettings(f"{host} is refused as a destination: {reason}.")


def _host(url: str) -> str:
    """Read by the parser that the client uses, so that both see the same host."""
    if not url.isprintable() or any(sign in url for sign in " \\"):
        raise BadSettings("The URL of an upstream holds a blank, a backslash or a control character.")
    try:
        parsed = URL(url)
        host, _ = parsed.raw_host, parsed.port
    except (ValueError, UnicodeError):
        raise BadSettings("The URL of an upstream cannot be read.") from None
    if parsed.scheme not in ("http", "https") or not host:
        raise BadSettings("The URL of an upstream is http:// or https:// and a host.")
    if "%" in host and ":" not in host:  # in an IPv6 address it stands before the name of an interface
        raise BadSettings("The host of an upstream is written with percent signs.")
    return host


def literal(host: str) -> Address | None:
    """The address that `host` is, in any spelling that a system's resolver would take for one; None where it is a name."""
    bare = host.strip("[]").partition("%")[0]
    if ":" in bare:
        try:
            return IPv6Address(bare)
        except ValueError:
            return None
    try:
        return IPv4Address(socket.inet_aton(bare.rstrip(".")))  # decimal, octal, hexadecimal, and fewer than four parts
    except (OSError, UnicodeError, ValueError):
        return None


def refusal(address: Address, *, allow_private: bool) -> str | None:
    """Why `address` is refused, or None where it is not."""
    meant = list(meanings(address))
    if any(one in network for one in (address, *meant) for network in METADATA if one.version == network.version):
        return "it is where a cloud hands out credentials"
    if not allow_private and not all(map(_is_public, meant)):
        return "it is not on the public internet, which allow_private = true would permit"
    return None


def meanings(address: Address) -> Iterable[Address]:
    """The address itself, or those that it stands for, where it is one of IPv6 that carries one of IPv4."""
    if isinstance(address, IPv4Address):
        return [address]
    bits = int(address)
    for network, shift in CARRIERS:
        if address in network:
            return [IPv4Address(bits >> shift & LOW_32)]
    if address in TEREDO:  # its server, and its client, which is written upside down
        return [IPv4Address(bits >> 64 & LOW_32), IPv4Address(~bits & LOW_32)]
    carried = (bits >> 32 & LOW_32) in ISATAP or address in COMPATIBLE or address in LOCAL_NAT64
    return [address, IPv4Address(bits & LOW_32)] if carried else [address]


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in PRIVATE_4)
    return address in PUBLIC_6 and not any(address in network for network in SPECIAL_6)


class GuardedResolver(AbstractResolver):
    """Resolves a name and judges every address that comes; one that is refused refuses them all."""

    def __init__(self, allow_private: bool, inner: AbstractResolver | None = None) -> None:
        """`inner` finds the addresses; by default the system does."""
        self._allow_private = allow_private
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises `UpstreamUnavailable` where an address is refused, since a name may mean another one tomorrow."""
        if self._inner is None:
            self._inner = ThreadedResolver(asyncio.get_running_loop())
        found = await self._inner.resolve(host, port, family)
        for one in found:
            self.check(one["host"])
        return found

    def check(self, host: str) -> None:
        """Raises `UpstreamUnavailable` where `host` is no address, or one that is refused."""
        address = literal(host)
        if address is None or refusal(address, allow_private=self._allow_private) is not None:
            raise UpstreamUnavailable("The name of the upstream leads to an address that is refused.")

    async def close(self) -> None:
        if self._inner is not None:
            await self._inner.close()
