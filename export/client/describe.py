"""Computes descriptors of photos on a server: `keras-retrieval describe a.jpg b.jpg --server localhost:8500`."""

import json

import numpy as np
from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.files.durable import write_array

from ..contract.signatures import OK
from .options import DescribeOptions
from .retrieval_client import photo_error


@takes(DescribeOptions)
def describe(options: DescribeOptions) -> np.ndarray:
    """Computes descriptors of photos with a served network, and prints them as JSON or writes them to an .npy file.

    The server is TensorFlow Serving or `keras-retrieval serve`, and serves a version that `keras-retrieval
    export-saved-model` wrote. The client sends the bytes of the photo files. Without `output`, each described photo is
    printed as one line of JSON.

    Returns:
        The descriptors of the B photos, (B, D) float32, in the order of the photos. With `skip`, the row of a photo
        that the server cannot read is zero.

    Raises:
        PhotoError: the server cannot read one of the photos, and `skip` is false.
        MissingPhotoError: a photo does not exist.
        ServerUnavailableError: the server cannot be reached or is not ready, after all attempts.
        ServerTimeoutError: the server has not answered before the time limit.
        RequestRefusedError: the server rejects the request, for example because the model is unknown.
    """
    with options.connect() as client:
        rows, status = client.describe_readable(options.photos)
    for number in np.flatnonzero(status != OK).tolist():
        error = photo_error(options.photos, number, int(status[number]))
        if not options.skip:
            raise error
        print(f"left out: {error}")
    if options.output is not None:
        write_array(options.output, rows)
        print(f"{options.output}: {len(rows):,} photos x {rows.shape[1]} dimensions")
        return rows
    for photo, row, code in zip(options.photos, rows, status, strict=True):
        if code == OK:
            print(json.dumps({"photo": str(photo), "descriptor": row.tolist()}, ensure_ascii=False))
    return rows
