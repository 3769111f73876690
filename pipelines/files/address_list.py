"""Lists of files at addresses: text files with the address of a file in each line."""

from urllib.parse import quote, unquote

from keras_retrieval.errors import ArgumentError

from .remote_errors import shown

LIST = ".txt"
"""The end of an address at which there is a list of files, not a folder."""


def address_list(place: str, content: bytes) -> dict[str, str]:
    """Reads a list of files: in each line the address of one, or its path relative to the list.

    Empty lines and those that begin with # are passed over. The name of a file below the folder of the list is its path
    there; that of another is its host, or bucket, and path. Passwords and queries, such as those of presigned
    addresses, are no part of a name.

    Args:
        place: the address of the list.
        content: its content, UTF-8.

    Returns:
        Maps the names to the addresses.

    Raises:
        ArgumentError: it is not UTF-8 text, a line is of another form, or two lines have the same name.
    """
    place, above = shown(place), place.rpartition("/")[0]
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{place} is not a list of addresses in UTF-8 ({error})") from error
    found: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        web = above.startswith(("http://", "https://"))
        address = line if "://" in line else f"{above}/{quote(line) if web else line}"
        scheme, _, rest = address.partition("://")
        if scheme in ("http", "https"):
            address, rest = address.partition("#")[0], unquote(shown(address).partition("?")[0]).partition("://")[2]
            name = rest.removeprefix(f"{unquote(shown(above)).partition('://')[2]}/")
        else:
            name = address.removeprefix(f"{above}/").removeprefix(f"{scheme}://")
        if not rest or not name or ".." in name.split("/") or name[0] == "/":
            raise ArgumentError(
                f"{place}, line {number}: {shown(line)} is neither an address nor a path below the list"
            )
        if found.setdefault(name, address) != address:
            raise ArgumentError(f"{place}, line {number}: {name} is in an earlier line, with another address")
    return found
