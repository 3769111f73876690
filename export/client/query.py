"""Neighbours of photos by a server: `keras-retrieval query photo.jpg --server localhost:8500`.

The counterpart of `search` where network and index are another machine's: photos are sent as they lie on the disk, to
`keras-retrieval serve SERVING --index INDEX`.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from keras_retrieval.pipelines.photos.reader import BOX_HELP, parse_box

from ..index_contract.contract import Hits
from .retrieval_client import (
    BATCH,
    MODEL,
    PORT,
    TIMEOUT,
    Batch,
    Ca,
    Certificate,
    Key,
    Model,
    RetrievalClient,
    Server,
    Timeout,
    Tls,
    Version,
)


def query(
    photos: Annotated[list[Path], typer.Argument(help="Photos to look for: JPEG, PNG, GIF, WebP or BMP.")],
    *,
    server: Server = f"localhost:{PORT}",
    model: Model = MODEL,
    version: Version = None,
    k: Annotated[int, typer.Option("--k", "-k", help="Neighbours of each photo.")] = 10,
    box: Annotated[str | None, typer.Option(help=BOX_HELP)] = None,
    batch: Batch = BATCH,
    timeout: Timeout = TIMEOUT,
    tls: Tls = False,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
) -> list[Hits]:
    """Finds the photos of a served index that are most similar to photos, and prints their scores and names."""
    part = parse_box(box)
    options: dict[str, Any] = {"tls": tls, "ca": ca, "certificate": certificate, "key": key}
    with RetrievalClient(server, model=model, version=version, batch=batch, timeout=timeout, **options) as client:
        found = client.search(photos, k, [part] * len(photos) if part else ())
    for photo, hits in zip(photos, found, strict=True):
        print(photo)
        for name, score in zip(hits.names, hits.scores, strict=True):
            print(f"  {score:.4f}  {name}")
    return found
