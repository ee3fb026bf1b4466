"""Public: connections to addresses of the internet alone, whatever a name stands for; for where strangers name servers.

A name is looked up once, every address that it has is checked, and the connection is made to one of these: a name that
stands for another address the next moment changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore2
import httpx2

from hybrid.errors import TierError

LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)  # as openai's own client


class PrivateAddressError(TierError):
    """A server's address is of a network that is not the internet: of this machine, of the house, of the cloud."""


def is_public(address: str) -> bool:
    """Whether an address is one of the internet, also of the IPv4 address that an IPv6 one holds.

    Examples
    --------
    >>> is_public("93.184.216.34"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast and not any(ip in net for net in _OF_THE_CLOUD)
    held = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.ipv4_mapped is not None or ip in _TRANSLATED:
        return is_public(str(held))
    within = [ip.sixtofour, *(ip.teredo or ())]
    return ip in _UNICAST and ip.is_global and all(is_public(str(inner)) for inner in within if inner is not None)


# global to the letter, and asked by machines of a cloud about themselves
_OF_THE_CLOUD = [ipaddress.ip_network(net) for net in ("192.0.0.0/24", "168.63.129.16/32")]
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses beyond a gateway
_UNICAST = ipaddress.ip_network("2000::/3")  # all that the internet has of IPv6


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, all of them public.

    Raises
    ------
    PrivateAddressError
        If one of them is not.
    """
    try:
        found = list(dict.fromkeys(str(i[4][0]) for i in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(str(error)) from error
    if not found or not all(map(is_public, found)):
        raise PrivateAddressError(
            f"{host} is an address of this server's own machine or network, which strangers may not have it ask. "
            "Whoever runs this can allow it: HYBRID_SERVERS."
        )
    return found


class _AsyncBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, beneath: httpcore2.AsyncNetworkBackend) -> None:
        self._beneath = beneath

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await asyncio.to_thread(resolve, host, port)
        for address in addresses[:-1]:
            try:
                return await self._beneath.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._beneath.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._beneath.sleep(seconds)


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, beneath: httpcore2.NetworkBackend) -> None:
        self._beneath = beneath

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses: Sequence[str] = resolve(host, port)
        for address in addresses[:-1]:
            try:
                return self._beneath.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._beneath.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    def sleep(self, seconds: float) -> None:
        self._beneath.sleep(seconds)


def async_transport(tls: ssl.SSLContext) -> httpx2.AsyncHTTPTransport:
    """Return a transport that connects to public addresses alone."""
    made = httpx2.AsyncHTTPTransport(verify=tls, limits=LIMITS)
    made._pool._network_backend = _AsyncBackend(made._pool._network_backend)  # httpx has no argument for it
    return made


def transport_that_waits(tls: ssl.SSLContext) -> httpx2.HTTPTransport:
    """Return a transport that connects to public addresses alone, for a client that waits."""
    made = httpx2.HTTPTransport(verify=tls, limits=LIMITS)
    made._pool._network_backend = _Backend(made._pool._network_backend)
    return made
