"""The command `keras-retrieval extract MODEL PHOTOS OUTPUT`, which writes a descriptor for each photo of a folder."""

from pathlib import Path

from ..command.options import takes
from ..files.durable import read_manifest
from ..files.remote import named
from ..local_features.extraction import extract_local_features
from ..local_features.folder import SUBFOLDER
from .extraction import extract_descriptors
from .folder import KIND, VERSION, photo_names
from .options import ExtractOptions


@takes(ExtractOptions)
def extract(options: ExtractOptions) -> Path:
    """Computes a descriptor for every photo of a folder.

    A .onnx file is run by ONNX Runtime, without TensorFlow. Its scales were fixed when it was exported.

    OUTPUT contains the shards descriptors-*.npy (float32, one L2-normalised row per photo), names.txt (the photos'
    names in the order of the rows, one JSON string per line), left_out.json (maps each photo without a descriptor to
    the reason) and manifest.json. To continue a killed run, run the same command again.

    With --crops, there is a row for each crop of a photo, the name of the photo is repeated for each of its rows, and
    boxes-*.npy contains the box of each row.

    With --local, OUTPUT/local contains the local features of the described photos, by which `search --verify` and
    `serve --verify` check that two photos show the same object. They can be added to a folder of descriptors that
    exists: run its command again with --local. A photo without local features is found all the same, and cannot be
    verified.

    Returns:
        The folder `output`.

    Raises:
        ArgumentError: an option is out of range or cannot be applied to the network, such as --scales to an .onnx file.
        FolderError: `output` contains descriptors of other photos or options, and `replace` is False; or `output` is
            not a folder of descriptors.
        PhotoFolderError: no photo can be read.
        NoDescriptorsError: the network's descriptors of all photos are zero or not finite.
        LocalFeaturesError: the extractor of --local cannot be loaded, or finds no features in any photo.
        ValueError: the network cannot be loaded.
    """
    output = extract_descriptors(options)
    manifest = read_manifest(output, kind=KIND, version=VERSION)
    photos = f"{manifest['count']:,} photos"
    if manifest.get("crops"):
        size = round(4 * manifest["row_count"] * manifest["dimensions"] / manifest["count"])
        photos += f", {manifest['row_count']:,} crops ({size:,} bytes a photo)"
    print(f"{named(output)}: {photos} x {manifest['dimensions']} dimensions")
    if settings := options.local_settings():
        folder, names = output / SUBFOLDER, photo_names(output)
        facts = extract_local_features(
            options.photos, names, folder, settings, replace=options.replace, engine=options.chosen_engine
        )
        print(
            f"{named(folder)}: {facts['feature_count']:,} local features of {facts['count']:,} photos "
            f"({facts['bytes_per_photo']:,} bytes a photo); {facts['left_out']:,} photos without"
        )
    return output
