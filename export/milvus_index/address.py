"""Where a Milvus collection is: `milvus://HOST:19530/COLLECTION`, and a client for it."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MILVUS, TLS = "milvus://", "milvus+tls://"
TOKEN = "MILVUS_TOKEN"
TIMEOUT = 10.0  # seconds that a server has to answer the first time
FORMS = f"{MILVUS}HOST:19530/COLLECTION, or {MILVUS}/FOLDER/FILE.db/COLLECTION for a file of milvus-lite"


class CollectionError(ValueError):
    """A collection is missing, was not made by `keras-retrieval index`, or is of a layout that is not read here."""


@dataclass(frozen=True)
class Address:
    """A collection of a server, or of a file of milvus-lite.

    Attributes:
        uri: what pymilvus takes: http:// or https:// with host, port and database, or the path of a .db file.
        collection: letters, digits and underscores.
    """

    uri: str
    collection: str

    @property
    def local(self) -> bool:
        """Whether milvus-lite holds it."""
        return self.uri.endswith(".db")

    def __str__(self) -> str:
        """As the user wrote it, but for a password."""
        scheme, _, rest = self.uri.rpartition("://")
        form = TLS if scheme == "https" else MILVUS
        return f"{form}{rest.rpartition('@')[2]}/{self.collection}"

    def connect(self) -> Any:
        """A pymilvus.MilvusClient. The environment's MILVUS_TOKEN (user:password, or a key) proves who asks.

        Raises:
            ConnectionError: nothing answers there, or it refuses; or another process has the file open.
            ImportError: pymilvus or milvus-lite is not installed.
        """
        pymilvus = _pymilvus(self.local)
        # It logs every error with its stack before it raises it: ours are one sentence.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        if self.local:
            # milvus-lite leaves out a call that its client tries, and its server logs that.
            logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
            Path(self.uri).parent.mkdir(parents=True, exist_ok=True)
        try:
            client = pymilvus.MilvusClient(self.uri, token=os.environ.get(TOKEN, ""), timeout=TIMEOUT)
            client.list_collections(timeout=TIMEOUT)
        except (pymilvus.MilvusException, RuntimeError) as error:
            raise ConnectionError(f"{self}: {_advice(self.local)} ({error})") from error
        return client


def is_milvus(place: str | Path) -> bool:
    """Whether a place of an index is a collection, not a folder."""
    return str(place).startswith((MILVUS, TLS))


def parse_address(place: str) -> Address:
    """Reads an address.

    Raises:
        ValueError: it has no host or file, or no collection, or a collection's name that Milvus refuses.
    """
    found = urlsplit(place)
    front, _, collection = found.path.rpartition("/")
    if not re.fullmatch(r"[A-Za-z_]\w{0,199}", collection, re.ASCII):
        raise ValueError(f"{place}: the last part names a collection, in letters, digits and underscores: {FORMS}")
    if found.netloc and front.count("/") <= 1:
        scheme = "https" if found.scheme == "milvus+tls" else "http"
        return Address(f"{scheme}://{found.netloc}{front}", collection)
    if not found.netloc and found.scheme == "milvus" and front.endswith(".db"):
        return Address(front, collection)
    raise ValueError(f"{place}: an address is {FORMS}")


def _advice(local: bool) -> str:
    if local:
        return "the file cannot be opened: one process at a time may have it open"
    return f"no Milvus server answers: check host and port, that it runs, and {TOKEN} where it asks who you are"


def _pymilvus(local: bool) -> Any:
    try:
        import pymilvus

        if local:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'Milvus\' client is not installed ({error}): pip install "keras-retrieval[milvus]"'
        ) from error
    return pymilvus
