"""Exports a network as one ONNX file: `keras-retrieval export-onnx model.keras model.onnx --size 1024`."""

from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.files.durable import write_file
from keras_retrieval.pipelines.files.space import naming_full_disk
from keras_retrieval.pipelines.networks.onnx_network import OnnxNetwork
from keras_retrieval.pipelines.runtimes.conversion import require_extra

from .check import positives_by_object
from .options import ExportOnnxOptions
from .precisions import write_float16, write_float32, write_int8
from .source import LEAST_PHOTOS, load_source, read_photos


@takes(ExportOnnxOptions)
def export_onnx(options: ExportOnnxOptions) -> Path:
    """Writes a network as one ONNX file, after comparing the descriptors of the file with those of Keras.

    The file's input is `images` (batch, height, width, 3) float32, RGB 0..255, and its output `descriptors` (batch,
    dimensions) float32, L2-normalised. Batch, height and width may vary, unless the network can only be converted for a
    fixed size. The file contains pixel normalisation, all scales and whitening; its metadata state the network, its
    settings and training set. `keras-retrieval extract model.onnx PHOTOS OUT` runs the file without TensorFlow.

    The file is compared with Keras on synthetic photos of several sizes: no component of a descriptor may differ by
    more than 1e-4. --fp16 and --int8 convert the network further. The cosine similarities of their descriptors to those
    of the float32 file, and with --score the mAP of both files, are reported and written into the metadata. They are
    measured on photos of --calibrate that were not used for calibration; --fp16 without --calibrate is measured on
    synthetic photos. `keras-retrieval evaluate` measures the mAP of the file on a whole dataset.

    Returns:
        The path of the ONNX file, `output`.

    Raises:
        OnnxExportError: the network cannot be converted; the descriptors of its file differ too much from those of
            Keras, or those in int8 from float32; or --calibrate contains too few photos, or, with --score, too few
            folders.
        MissingExtraError: tf2onnx, onnx or onnxruntime is not installed.
    """
    require_extra()
    source, output = load_source(options), options.output
    rule = options.objects if options.score else None
    photos = (
        read_photos(options.calibrate, source, rule, LEAST_PHOTOS if options.int8 else 2) if options.calibrate else []
    )
    compared = photos[1::2] if options.int8 else photos
    positives = positives_by_object([photo.shown for photo in compared]) if options.score else []
    with naming_full_disk(Path(gettempdir())), TemporaryDirectory() as folder:
        written = exact = write_float32(source, Path(folder))
        if options.fp16:
            written = write_float16(source, exact, compared, positives)
        elif options.int8:
            written = write_int8(source, exact, photos[::2], compared, positives, options.least_cosine)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_file(output, written.read_bytes())
    network = OnnxNetwork(output)
    accepted = f"photos of {network.sides} only" if network.sides else "photos of any size"
    megabytes = output.stat().st_size / 1e6
    print(f"{output}: {network.name}, {accepted}, {network.output_shape[1]} dimensions, {megabytes:.1f} MB")
    return output
