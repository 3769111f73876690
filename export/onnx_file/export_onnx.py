"""Exports a network as one ONNX file: `keras-retrieval export-onnx model.keras model.onnx --size 1024`."""

from pathlib import Path
from tempfile import TemporaryDirectory

from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.files.durable import write_file
from keras_retrieval.pipelines.networks.onnx_network import OnnxNetwork

from .check import positives_by_folder
from .conversion import require_extra
from .options import ExportOnnxOptions
from .precisions import write_float16, write_float32, write_int8
from .source import load_source, read_photos


@takes(ExportOnnxOptions)
def export_onnx(options: ExportOnnxOptions) -> Path:
    """Writes a network as one ONNX file, after comparing its descriptors with Keras'.

    Input `images` (batch, height, width, 3) float32, RGB 0..255; output `descriptors` (batch, dimensions) float32, of
    unit length. Batch, height and width are open. Pixel normalisation, scales and whitening are inside, and the
    metadata state what the file was made from. `keras-retrieval extract model.onnx PHOTOS OUT` runs it without
    TensorFlow.

    Drawn pictures of several sizes are compared: no number may differ by more than 1e-4. --fp16 and --int8 start from
    the file that passed; their cosines to it, and with --score their mAP, are measured on photos that they were not
    calibrated on, reported, and kept in the metadata. `keras-retrieval evaluate` takes the file for a whole dataset.

    Returns:
        The path of the ONNX file, `output`.

    Raises:
        OnnxExportError: the network cannot be converted, its file differs from Keras, or there are too few photos.
        MissingExtraError: tf2onnx, onnx or onnxruntime is not installed.
    """
    require_extra()
    source, output = load_source(options), options.output
    photos = read_photos(options.calibrate, source) if options.calibrate else []
    compared = photos[1::2] if options.int8 else photos
    positives = positives_by_folder([photo.folder for photo in compared]) if options.score else []
    with TemporaryDirectory() as folder:
        written = exact = write_float32(source, Path(folder))
        if options.fp16:
            written = write_float16(source, exact, compared, positives)
        elif options.int8:
            written = write_int8(source, exact, photos[::2], compared, positives)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_file(output, written.read_bytes())
    network = OnnxNetwork(output)
    accepted = f"photos of {network.sides} only" if network.sides else "photos of any size"
    megabytes = output.stat().st_size / 1e6
    print(f"{output}: {network.name}, {accepted}, {network.output_shape[1]} dimensions, {megabytes:.1f} MB")
    return output
