"""Which address a server of ours listens on: one, and never all of them."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from slcluster.errors import InputError

__all__ = ["address_towards", "host_of", "interface_address", "is_loopback", "own_address"]

#: Of the kind that is routed to the outside; connecting a datagram socket sends nothing.
_OUTSIDE = "192.0.2.1"


def own_address() -> str:
    """The address by which other machines reach this one: its name's, or that of its route to the outside.

    Raises
    ------
    InputError
        This machine has no address but loopback.
    """
    for found in (*_resolved(socket.gethostname()), address_towards(_OUTSIDE)):
        if found in _own() and not is_loopback(found):
            return found
    raise InputError(
        "other machines cannot reach this one: it has no address that its name resolves to, and no route to the "
        "outside; name the network in the profile: interface (ip -brief address lists them)"
    )


def address_towards(host: str) -> str:
    """This machine's address on the way to a host. Nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def host_of(address: str) -> str:
    """The host of an address such as ``tcp://10.0.0.1:8786``.

    Examples
    --------
    >>> host_of("tls://[fe80::1]:8786"), host_of("tcp://node7:8786")
    ('fe80::1', 'node7')
    """
    return address.partition("://")[2].rpartition(":")[0].strip("[]")


def is_loopback(host: str) -> bool:
    """Whether a name or number of a host never leaves this machine.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("10.0.0.7")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        found = _resolved(host)
        return bool(found) and all(ipaddress.ip_address(each).is_loopback for each in found)


def interface_address(name: str) -> str:
    """The address of a network interface of this machine, IPv4 where it has one.

    Raises
    ------
    InputError
        No such interface, or it has no address.
    """
    found = _own(name)
    if not found:
        raise InputError(
            f"interface {name!r} has no address on this machine; it has {', '.join(sorted(psutil.net_if_addrs()))}"
        )
    return min(found, key=lambda address: (":" in address, address))


def _resolved(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    # What most networks of nodes speak comes first.
    return [str(entry[4][0]) for entry in sorted(found, key=lambda entry: entry[0] != socket.AF_INET)]


def _own(interface: str | None = None) -> set[str]:
    addresses = psutil.net_if_addrs()
    chosen = addresses.values() if interface is None else [addresses.get(interface, [])]
    internet = (socket.AF_INET, socket.AF_INET6)
    return {one.address.partition("%")[0] for each in chosen for one in each if one.family in internet}
