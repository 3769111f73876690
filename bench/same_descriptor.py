"""Agreement of a photo's descriptors across runtimes: Keras compared with SavedModel, gRPC, REST and ONNX.

    python -m bench.same_descriptor [--network vgg16_gem | --model model.keras] [--photos FOLDER] [--count 100]

The network is exported as a SavedModel and as ONNX files in float32 and int8 by the steps of this project, and is
served by `keras-retrieval serve` in a separate process. All runtimes describe the same files: Keras and ONNX through
`extract`, which reads the folder, and the others from the bytes of the files. The table lists the size of each model on
disk, and the cosine similarities of its descriptors to those of Keras. The quantization to int8 is calibrated on the
photos in --calibrate, which should show other places.
"""

import argparse
import base64
import json
import os
import platform
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.photos import network_file, photos
from bench.record import recorded
from bench.serving import bare_call, copied, megabytes, server_process
from export.client.retrieval_client import RetrievalClient
from export.contract.signatures import DESCRIPTORS
from export.onnx_file.export_onnx import export_onnx
from export.savedmodel.export_saved_model import export_saved_model
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import read_descriptors

NAME = "same"
AT_ONCE = 8  # photos per call or request
ONNX: dict[str, dict[str, Any]] = {"float32": {}, "int8": {"int8": True}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="vgg16_gem", help="network as BACKBONE_POOLING, such as vgg16_gem")
    parser.add_argument("--model", type=Path, help="a .keras file in place of --network")
    parser.add_argument("--photos", type=Path, help="folder of photos")
    parser.add_argument(
        "--count", type=int, default=100, help="number of photos, taken at equal distances from the folder"
    )
    parser.add_argument(
        "--calibrate", type=Path, help="folder of photos to calibrate int8 on, other than those that are compared"
    )
    parser.add_argument("--size", type=int, default=362, help="longest side of the photos in pixels")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        work = Path(folder)
        model = network_file(arguments.model, arguments.network, work)
        copied(arguments.photos, work / "photos", arguments.count)
        calibrate = arguments.calibrate or photos("photos", arguments.count)[0]
        ways = list(described(model, work / "photos", calibrate, arguments.size, work))
        network = arguments.model or arguments.network
        print(f"\n{network}, {arguments.size} px; {os.cpu_count()} cores, {platform.machine()}")
        report(ways)


def described(
    model: Path, folder: Path, calibrate: Path, size: int, work: Path
) -> Iterator[tuple[str, Path, np.ndarray]]:
    """Describes the photos of a folder with each runtime.

    Args:
        model: the .keras file of the network.
        folder: folder of the N photos to describe.
        calibrate: folder of the photos on which int8 is calibrated.
        size: longest side of the photos in pixels.
        work: folder in which exported models and descriptors are stored.

    Yields:
        The name of each runtime, the file or folder of its model, and its descriptors (N, D) in the order of the sorted
        names of the photos. Keras is first.
    """
    yield "Keras, `extract`", model, extracted(model, folder, size, work / "keras")
    version = export_saved_model(str(model), work / NAME, size=size, check_photos=folder)
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    yield "SavedModel, called", version, together(bare_call(version), files)
    with server_process(version.parent, []) as server:
        with RetrievalClient(server.grpc, model=NAME, batch=AT_ONCE) as client:
            yield "`serve`, gRPC", version, client.describe(files)
        yield "`serve`, REST", version, together(lambda few: asked(server.rest, few), files)
    for precision, options in ONNX.items():
        path = export_onnx(str(model), work / f"{precision}.onnx", size=size, calibrate=calibrate, **options)
        yield f"ONNX {precision}, `extract`", path, extracted(path, folder, size, work / precision)


def extracted(model: Path, folder: Path, size: int, output: Path) -> np.ndarray:
    """Describes the photos of a folder with `extract`; returns the descriptors in the order of the photos' names."""
    extract(str(model), folder, output, size=size)
    shards, names, _ = read_descriptors(output)
    return np.concatenate(shards)[np.argsort(names)]


def together(describe: Callable[[list[bytes]], np.ndarray], files: list[bytes]) -> np.ndarray:
    return np.concatenate([describe(files[start : start + AT_ONCE]) for start in range(0, len(files), AT_ONCE)])


def asked(address: str, files: list[bytes]) -> np.ndarray:
    """Requests descriptors from a server over REST with Python's own HTTP client.

    Args:
        address: HOST:PORT of the server's REST API.
        files: the bytes of photos.

    Returns:
        The descriptors, (N, D) float32.
    """
    body = json.dumps({"instances": [{"b64": base64.b64encode(file).decode()} for file in files]})
    with urllib.request.urlopen(f"http://{address}/v1/models/{NAME}:predict", body.encode()) as answer:
        return np.array([row[DESCRIPTORS] for row in json.load(answer)["predictions"]], "float32")


def report(ways: list[tuple[str, Path, np.ndarray]]) -> None:
    """Records the table from the name, the model's path and the descriptors of each runtime; Keras must be first."""
    _, keras, expected = ways[0]
    with recorded("one-descriptor") as add:
        for name, path, rows in ways:
            lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(expected, axis=1)
            cosines = (rows * expected).sum(axis=1) / lengths
            size = megabytes(path)
            sizes = {"MB": f"{size:.1f}", "size relative to Keras": f"{size / megabytes(keras):.2f}"}
            close = {"least cosine to Keras": f"{cosines.min():.7f}", "mean cosine": f"{cosines.mean():.7f}"}
            add({"method": name, **sizes, "photos": len(rows), **close})


if __name__ == "__main__":
    main()
