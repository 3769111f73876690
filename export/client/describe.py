"""Photos described by a server: `keras-retrieval describe --server localhost:8500 a.jpg b.jpg --output rows.npy`.

It speaks gRPC to TensorFlow Serving and to `keras-retrieval serve`, for networks from
`keras-retrieval export-saved-model`: photos are sent as they lie on the disk, and read by the server.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from keras_retrieval.pipelines.files.durable import write_array
from keras_retrieval.pipelines.photos.formats import PhotoError

from ..contract.signatures import OK
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
    _reason,
)


def describe(
    photos: Annotated[list[Path], typer.Argument(help="Photos: JPEG, PNG, GIF, WebP or BMP.")],
    *,
    server: Server = f"localhost:{PORT}",
    model: Model = MODEL,
    version: Version = None,
    output: Annotated[Path | None, typer.Option(help="A .npy file for the rows; else they are printed.")] = None,
    skip: Annotated[bool, typer.Option(help="Rows of photos that the server cannot read are zero, not an error.")] = (
        False
    ),
    batch: Batch = BATCH,
    timeout: Timeout = TIMEOUT,
    tls: Tls = False,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
) -> np.ndarray:
    """Describes photos by a network that is served, and prints a line of JSON for each or writes one .npy file.

    Returns the descriptors, (B, D) float32, in the order of the photos.
    """
    options: dict[str, Any] = {"tls": tls, "ca": ca, "certificate": certificate, "key": key}
    with RetrievalClient(server, model=model, version=version, batch=batch, timeout=timeout, **options) as client:
        rows, status = client.describe_readable(photos)
    for number in np.flatnonzero(status != OK).tolist():
        error = PhotoError(str(photos[number]), _reason(status[number]))
        if not skip:
            raise error
        print(f"left out: {error}")
    if output is not None:
        write_array(output, rows)
        print(f"{output}: {len(rows):,} photos x {rows.shape[1]} dimensions")
        return rows
    for photo, row, code in zip(photos, rows, status, strict=True):
        if code == OK:
            print(json.dumps({"photo": str(photo), "descriptor": row.tolist()}, ensure_ascii=False))
    return rows
