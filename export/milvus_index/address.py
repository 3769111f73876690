"""Addresses of Milvus collections, `milvus://HOST:19530/COLLECTION`, and the connection to their servers."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keras_retrieval.errors import ArgumentError, missing_extra

from ..index_contract.errors import MilvusConnectionError

MILVUS, TLS = "milvus://", "milvus+tls://"
TOKEN = "MILVUS_TOKEN"
TIMEOUT = 10.0  # seconds to wait for the first response of a server
FORMS = f"{MILVUS}HOST:19530/COLLECTION, or {MILVUS}/FOLDER/FILE.db/COLLECTION for a file of milvus-lite"


@dataclass(frozen=True)
class Address:
    """The address of a collection on a Milvus server or in a milvus-lite file.

    Attributes:
        uri: URI for pymilvus: http:// or https:// with host, port and database, or the path of a .db file.
        collection: name of the collection, of letters, digits and underscores.
    """

    uri: str
    collection: str

    @property
    def local(self) -> bool:
        """Whether the collection is in a milvus-lite file, not on a server."""
        return self.uri.endswith(".db")

    def __str__(self) -> str:
        """Returns the address in the form that users write, without user name and password."""
        scheme, _, rest = self.uri.rpartition("://")
        form = TLS if scheme == "https" else MILVUS
        return f"{form}{rest.rpartition('@')[2]}/{self.collection}"

    def connect(self) -> Any:
        """Opens a connection to the Milvus server or the milvus-lite file.

        The environment variable MILVUS_TOKEN contains the credentials, if any: user:password, or an API key.

        Returns:
            A pymilvus.MilvusClient.

        Raises:
            MilvusConnectionError: no server answers within 10 seconds, the server refuses the credentials, or another
                process has the milvus-lite file open.
            MissingExtraError: pymilvus or milvus-lite is not installed.
        """
        pymilvus = _import_pymilvus(self.local)
        # pymilvus logs every error with its traceback before raising it, although our messages state the error.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        if self.local:
            # milvus-lite does not implement one of its client's calls, and its server logs every attempt.
            logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
            Path(self.uri).parent.mkdir(parents=True, exist_ok=True)
        try:
            client = pymilvus.MilvusClient(self.uri, token=os.environ.get(TOKEN, ""), timeout=TIMEOUT)
            client.list_collections(timeout=TIMEOUT)
        except (pymilvus.MilvusException, RuntimeError) as error:
            raise MilvusConnectionError(f"{self}: {_advice(self.local)} ({error})") from error
        return client


def is_milvus(place: str | Path) -> bool:
    """Returns whether `place`, where an index is stored, is the address of a Milvus collection, not of a folder."""
    return str(place).startswith((MILVUS, TLS))


def parse_address(place: str) -> Address:
    """Parses the address of a collection.

    Args:
        place: address such as `milvus://HOST:19530/COLLECTION` (`milvus+tls://` with TLS), or
            `milvus:///FOLDER/FILE.db/COLLECTION` for a file of milvus-lite.

    Raises:
        ArgumentError: the address has no host or file, or no valid collection name.
    """
    parts = urlsplit(place)
    front, _, collection = parts.path.rpartition("/")
    if not re.fullmatch(r"[A-Za-z_]\w{0,199}", collection, re.ASCII):
        raise ArgumentError(
            f"{place}: the last part must be the name of a collection, letters, digits and underscores: {FORMS}"
        )
    if parts.netloc and front.count("/") <= 1:
        scheme = "https" if parts.scheme == "milvus+tls" else "http"
        return Address(f"{scheme}://{parts.netloc}{front}", collection)
    if not parts.netloc and parts.scheme == "milvus" and front.endswith(".db"):
        return Address(front, collection)
    raise ArgumentError(f"{place} is not an address of a collection: {FORMS}")


def _advice(local: bool) -> str:
    if local:
        return "the file cannot be opened: only one process at a time may have it open"
    return f"no Milvus server answers: check host and port, that it is running, and {TOKEN} if it needs credentials"


def _import_pymilvus(local: bool) -> Any:
    try:
        import pymilvus

        if local:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        raise missing_extra("Milvus' client", "milvus", error) from error
    return pymilvus
