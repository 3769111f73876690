"""Exports a network as a SavedModel: `keras-retrieval export-saved-model model.keras SERVING/name --size 1024`."""

from pathlib import Path

from keras_retrieval.pipelines.command.options import takes

from keras_retrieval.errors import printable

from .options import ExportSavedModelOptions
from .version import export_version


@takes(ExportSavedModelOptions)
def export_saved_model(options: ExportSavedModelOptions) -> Path:
    """Writes a network as a version for TensorFlow Serving, after comparing its descriptors with those of Keras.

    A version takes the bytes of photo files and returns descriptors. Its graph contains decoding, EXIF orientation,
    resizing, all scales and whitening. The graph needs neither Keras nor code of this package, and contains only
    operations of TensorFlow's own server (with --index, also those of ScaNN).

    The version is compared with Keras on some photos. The complete folder OUTPUT/VERSION appears only if the cosine
    similarity of the two descriptors is at least 0.9999 for each photo (0.99999 for photos that are not shrunk). The
    folder also contains warm-up requests, README.txt and manifest.json.

    Returns:
        The path of the version folder.

    Raises:
        FolderError: the version exists already, or OUTPUT is a file.
        SavedModelError: a descriptor of the version differs too much from that of Keras, no photo can be compared, or
            the index was made with another network.
        MissingExtraError: TensorFlow Serving's message types, or ScaNN for --index, are not installed.
    """
    version = export_version(options)
    agreement = version.agreement
    print(
        f"{version.folder}: {', '.join(version.signatures)}; {agreement.photos} photos compared, "
        f"cosine at least {agreement.lowest:.6f}"
    )
    if options.webp:
        print("it reads WebP, so TensorFlow 2.19 and earlier cannot load it: export with --no-webp for them")
    for name, reason in agreement.refused.items():
        print(f"  refused by the version, though Keras describes it: {printable(name)}: {reason}")
    return version.folder
