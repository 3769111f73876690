"""Addresses on which servers listen: how they are written, and the check of the option --host."""

from typing import Any

from keras_retrieval.pipelines.command.kinds import takes_addresses

from keras_retrieval.errors import ArgumentError


@takes_addresses
def address_to_listen_on(label: str, value: Any) -> None:
    """Checks that a text can be the name or the address of this machine, without asking for it.

    Args:
        label: the name of the option.
        value: its value.

    Raises:
        ArgumentError: the text is empty, has spaces or control characters, or is no name of a computer.
    """
    try:
        sound = bool(value) and value.isprintable() and " " not in value and bool(value.encode("idna"))
    except UnicodeError:
        sound = False
    if not sound:
        raise ArgumentError(
            f"{label} must be an address of this machine such as 127.0.0.1, or 0.0.0.0 for all of them, got {value!r}"
        )


def address(host: str, port: int) -> str:
    """Formats a host and a port as HOST:PORT, with brackets around an IPv6 address that has none."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
