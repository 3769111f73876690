"""An exported network for edge maps: the files of `edge-maps` get the descriptors that Keras computes."""

import numpy as np
import pytest

from pipelines.descriptors.describer import describer
from pipelines.descriptors.extract import extract
from pipelines.networks.files import load_model
from pipelines.photos.edge_maps import edge_maps
from pipelines.photos.reading import Reading
from tests.pipelines.evaluation.test_sketch_search import SHAPES, draw_photos, draw_sketches, edge_network


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The network, and the edge maps of photos and of sketches as files."""
    folder = tmp_path_factory.mktemp("made")
    draw_photos(folder)
    draw_sketches(folder)
    edge_network(folder / "edges.keras")
    edge_maps(folder / "photos", folder / "maps", size=100)
    edge_maps(folder / "sketches", folder / "drawn", edges="sketch", size=100)
    return folder


def files_and_expected(made, scales):
    """The files of edge maps, and Keras' descriptors of the photos and sketches that they were made from."""
    describe = describer(load_model(made / "edges.keras"), scales, mirror=True)
    photos, sketches = Reading(made / "photos", 100, edges="sobel"), Reading(made / "sketches", 100, edges="sketch")
    files = [made / "maps" / name / "0.png" for name in SHAPES] + [made / "drawn" / f"{name}.png" for name in SHAPES]
    pixels = [photos.read(f"{name}/0.png") for name in SHAPES] + [sketches.read(f"{name}.png") for name in SHAPES]
    return files, describe(np.stack(pixels))


def test_a_served_network_describes_maps_of_photos_and_of_sketches(made):
    pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")
    import tensorflow as tf

    from export.savedmodel.export_saved_model import export_saved_model

    version = export_saved_model(str(made / "edges.keras"), made / "served", size=160, scales="1", mirror=True)
    loaded = tf.saved_model.load(str(version))  # a signature lives as long as what it was loaded with
    files, expected = files_and_expected(made, (1.0,))
    found = loaded.signatures["serving_default"](image_bytes=tf.constant([file.read_bytes() for file in files]))
    np.testing.assert_allclose(found["descriptors"].numpy(), expected, atol=1e-5)


def test_onnx_describes_maps_of_photos_and_of_sketches(made):
    pytest.importorskip("tf2onnx")
    from export.onnx_file.export_onnx import export_onnx
    from pipelines.photos.reader import read_photo

    path = export_onnx(str(made / "edges.keras"), made / "edges.onnx", size=160, scales="1,0.7071", mirror=True)
    files, expected = files_and_expected(made, (1.0, 0.7071))
    found = load_model(path).describe(np.stack([read_photo(file) for file in files]))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="takes edge maps, not photos"):
        extract(str(path), made / "photos", made / "descriptors", size=100)
