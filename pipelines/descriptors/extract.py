"""Photos to descriptors: `keras-retrieval extract model.keras PHOTOS OUT --size 1024 --scales 1,0.7071,0.5`."""

from pathlib import Path

from ..command.options import takes
from ..files.durable import read_manifest
from .extraction import extract_descriptors
from .folder import KIND, VERSION
from .options import ExtractOptions


@takes(ExtractOptions)
def extract(options: ExtractOptions) -> Path:
    """Describes every photo of a folder by one vector.

    The scales of an .onnx file were chosen when it was exported, and it is run by ONNX Runtime, without TensorFlow.

    OUTPUT contains descriptors-*.npy (float32, one unit row per photo), names.txt (one JSON string a line, in the order
    of the rows), left_out.json (name -> reason) and manifest.json. A killed run is continued by the same command.

    Returns:
        `output`.
    """
    output = extract_descriptors(options)
    manifest = read_manifest(output, kind=KIND, version=VERSION)
    print(f"{output}: {manifest['count']:,} photos x {manifest['dimensions']} dimensions")
    return output
