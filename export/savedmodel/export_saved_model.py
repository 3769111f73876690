"""Exports a network as a SavedModel: `keras-retrieval export-saved-model model.keras SERVING/name --size 1024`."""

from pathlib import Path

from keras_retrieval.pipelines.command.options import takes

from .options import ExportSavedModelOptions
from .version import export_version


@takes(ExportSavedModelOptions)
def export_saved_model(options: ExportSavedModelOptions) -> Path:
    """Writes a network as a version for TensorFlow Serving, after comparing its descriptors with Keras'.

    The version takes photos as the bytes of their files and answers with descriptors. Decoding, orientation, resizing,
    all scales and the whitening are inside its graph, which needs no Keras, no code of ours and only operations of
    TensorFlow's own server (except with --index).

    OUTPUT/VERSION appears whole, once the loaded version has a cosine similarity of at least 0.9999 to Keras'
    descriptor of every photo compared (0.99999 for photos that are not shrunk). It has warm-up requests, README.txt
    and manifest.json.

    Returns:
        The path of the version folder.

    Raises:
        FolderError: the version exists, or OUTPUT is a file.
        SavedModelError: a descriptor of the version differs from Keras, or the index was made with another network.
    """
    version = export_version(options)
    agreement = version.agreement
    print(
        f"{version.folder}: {', '.join(version.signatures)}; {agreement.photos} photos compared, "
        f"cosine at least {agreement.lowest:.6f}"
    )
    for name, reason in agreement.refused.items():
        print(f"  refused by the version, though Keras describes it: {name}: {reason}")
    return version.folder
