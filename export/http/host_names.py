"""Which names of a server are answered, so that no web page of another server can reach it by DNS rebinding.

In DNS rebinding, a page makes its own name, such as attacker.example, resolve to an address in the user's network. The
user's browser then sends requests with this name in the header Host. Addresses and names that only the user's network
can resolve are safe.
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from keras_retrieval.pipelines.command.kinds import takes_addresses

from keras_retrieval.errors import ArgumentError

ANY = "*"
LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


class HostNames:
    """The names in the header Host that a server answers.

    A server that listens on a loopback address answers loopback names and addresses. Others also answer every IP
    address, and the names of this machine.

    Args:
        listens_on: the address that the server listens on.
        allowed: further names, such as "photos.example.org"; ".example.org" for all names that end so; "*" for all.

    Raises:
        ArgumentError: an entry of `allowed` is not a name.
    """

    def __init__(self, listens_on: str, allowed: Sequence[str] = ()) -> None:
        for name in allowed:
            host_to_allow("--allow-host", name)
        self._allowed = {name.lower().rstrip(".") for name in allowed}
        self._loopback = is_loopback(listens_on)
        self._own = set(LOOPBACK_NAMES)
        if not self._loopback:
            name = socket.gethostname().lower()
            self._own |= {name, f"{name}.local", socket.getfqdn().lower(), listens_on.lower()}

    def answered(self, host: str) -> bool:
        """Returns whether requests for a host are answered.

        Args:
            host: the header Host, a name or an address, with or without a port; "" for none, as HTTP/1.0 allows.
        """
        name = _name(host)
        if ANY in self._allowed or not host:
            return True
        if name is None:
            return False
        if name in self._own or name in self._allowed or name.endswith(".localhost"):
            return True
        if any(name.endswith(suffix) for suffix in self._allowed if suffix.startswith(".")):
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or not self._loopback)


def is_loopback(host: str) -> bool:
    """Returns whether a server that listens on a host can only be reached from this machine."""
    address = _address(host.strip("[]"))
    return host.lower() in LOOPBACK_NAMES if address is None else address.is_loopback


@takes_addresses
def host_to_allow(label: str, value: Any) -> None:
    """Checks an entry of the option --allow-host.

    Args:
        label: the name of the option.
        value: its value.

    Raises:
        ArgumentError: it is not a name, such as an address with a port or a path.
    """
    bare = value.removeprefix(".").rstrip(".")
    if value != ANY and (_name(bare) != bare.lower() or not bare):
        raise ArgumentError(
            f"{label} must be a name such as photos.example.org, .example.org for all names that end so, or *, "
            f"got {value!r}"
        )


def _name(host: str) -> str | None:
    """Returns the name or address of a header Host in lower case, without port and brackets; None if it is neither."""
    text = host.strip().lower()
    if text.startswith("["):
        text, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
    else:
        port = ""
    sound = text.isascii() and all(mark.isalnum() or mark in "-._:%" for mark in text)
    return text.rstrip(".") if text and sound and (not port or port.isdigit()) else None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
