"""Rebuilds NetVLAD's published VGG16 networks (Arandjelovic et al. CVPR 2016) from MATLAB files of MatConvNet.

Some layers in the authors' files are objects of MATLAB classes, which only MATLAB can read. The files must therefore be
saved again in MATLAB, with every layer as a struct::

    for i = 1:numel(net.layers), net.layers{i} = struct(net.layers{i}); end
    save('netvlad.mat', 'net', '-v7')

In the files, the kernel of a convolution has the shape (h, w, in, out). The NetVLAD layer with K clusters and D
channels has assignment weights (1, 1, D, K), in version 2 a bias (1, K), and the negated centroids (1, 1, D, K). The
PCA to d dimensions is a convolution with the kernel (1, 1, K D, d), in whose input the cluster index varies fastest.
"""

from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import missing_extra

from .errors import ConversionError

_BLOCKS = (2, 2, 3, 3, 3)
_VGG16 = [kind for count in _BLOCKS for kind in [*["conv", "relu"] * count, "pool"]][:-2]
_NETVLAD = [*_VGG16, "normalize", "custom", "normalize", "custom"]
_PCA = ["conv", "custom"]
_GEOMETRY = {"conv": {"pad": 1, "stride": 1}, "pool": {"pad": 0, "stride": 2, "pool": 2}}


def read_matlab(path: Path) -> Any:
    """Reads the variable `net` of a MATLAB file of version 5 to 7 with scipy.

    Args:
        path: the .mat file.

    Returns:
        The struct in the form of scipy: its fields are attributes, and cell arrays are numpy arrays of objects.

    Raises:
        ConversionError: the file is not a MATLAB file of these versions, or has no struct `net`.
        MissingExtraError: scipy is not installed.
        OSError: the file cannot be read.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise missing_extra("SciPy, which reads MATLAB files,", "matlab", error) from error
    with path.open("rb") as file:
        if file.read(10) == b"MATLAB 7.3":
            raise ConversionError("it is a MATLAB 7.3 file: save it again in MATLAB with save(.., '-v7')")
        file.seek(0)
        try:
            found = loadmat(file, struct_as_record=False, variable_names=["net"])
        except Exception as error:  # scipy raises many kinds of errors for damaged files
            raise ConversionError(f"it is not a MATLAB file, or it is damaged ({str(error)[:150]})") from error
    if "net" not in found or not hasattr(_only(found["net"]), "layers"):
        raise ConversionError("it has no struct 'net' with layers")
    return _only(found["net"])


def to_keras(net: Any, dim: int | None = None) -> Any:
    """Builds the network VGG16 with NetVLAD, and with the PCA whitening if the file contains one.

    Args:
        net: the struct that `read_matlab` returned.
        dim: the number of dimensions of the PCA to keep; None keeps all.

    Returns:
        A keras.Model like `keras_retrieval.build("vgg16_netvlad")`, in which the PCA is the layer "whitening".

    Raises:
        ConversionError: the layers are not those of VGG16 with NetVLAD; their weights have wrong shapes; or `dim` is
            given, and the file has no PCA or a PCA of fewer dimensions.
    """
    layers = [_only(layer) for layer in np.ravel(net.layers)]
    kinds = [_text(layer, "type") for layer in layers]
    if kinds not in (_NETVLAD, [*_NETVLAD, *_PCA]):
        raise ConversionError(f"its layers are not those of VGG16 with NetVLAD: {', '.join(kinds)[:300]}")
    core = layers[len(_VGG16) + 1]
    kernel, bias, centroids = _vlad(core)
    whitening = _pca(layers[len(_NETVLAD)], kernel.shape, dim) if len(kinds) > len(_NETVLAD) else None
    if dim is not None and whitening is None:
        raise ConversionError(f"it has no PCA, so that --dim {dim} cannot be kept")
    model = _assembled(_average(net), kernel.shape[1], whitening)
    _fill_trunk(model.get_layer("vgg16"), layers[: len(_VGG16)])
    model.get_layer("pooling").set_weights([kernel, bias, centroids])
    return model


def _assembled(average: np.ndarray, clusters: int, whitening: list[np.ndarray] | None) -> Any:
    import keras

    import keras_retrieval
    from keras_retrieval import layers

    plain = keras_retrieval.build("vgg16_netvlad", weights=None, normalization="none", clusters=clusters)
    images = keras.Input((None, None, 3), name="images")
    x = layers.PixelNormalization(average.tolist(), [1, 1, 1], name="normalization")(images)
    for name in ("vgg16", "pooling", "l2"):
        x = plain.get_layer(name)(x)
    if whitening is not None:
        layer = layers.Whitening(whitening[0].shape[1], name="whitening", dtype="float32")
        x = layers.L2Normalization(name="l2_whitened", dtype="float32")(layer(x))
        layer.set_weights(whitening)
    return keras.Model(images, x, name=plain.name)


def _fill_trunk(trunk: Any, layers: list[Any]) -> None:
    ours = iter([layer for layer in trunk.layers if layer.weights])
    for layer in layers:
        _check_geometry(layer)
        if _text(layer, "type") == "conv":
            keras_layer = next(ours)
            kernel_shape, bias_shape = (tuple(weight.shape) for weight in keras_layer.weights)
            kernel, bias = _weights(layer, 2)
            keras_layer.set_weights([_fitting(layer, kernel, kernel_shape), _fitting(layer, bias, bias_shape)])


def _check_geometry(layer: Any) -> None:
    kind = _text(layer, "type")
    for field, expected in _GEOMETRY.get(kind, {}).items():
        if np.any(np.asarray(getattr(layer, field, expected)) != expected):
            raise ConversionError(f"its layer {_text(layer, 'name')!r} has another {field} than VGG16's {expected}")


def _vlad(core: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the kernel (D, K), the bias (K,) and the centroids (K, D) of the NetVLAD layer."""
    count = np.size(getattr(core, "weights", ()))
    if count not in (2, 3):
        raise ConversionError(f"its layer {_text(core, 'name')!r} has {count} weights, and NetVLAD has 2 or 3")
    assignment, *bias, offsets = _weights(core, count)
    if assignment.ndim != 4 or assignment.shape[:3] != (1, 1, 512):
        raise ConversionError(
            f"the assignment of its NetVLAD layer has shape {assignment.shape}, expected (1, 1, 512, K)"
        )
    clusters = assignment.shape[3]
    kernel = assignment[0, 0]
    centroids = -_fitting(core, offsets, kernel.shape).T
    return kernel, _fitting(core, bias[0], (clusters,)) if bias else np.zeros(clusters, "float32"), centroids


def _pca(layer: Any, shape: tuple[int, ...], dim: int | None) -> list[np.ndarray]:
    """Returns the PCA's kernel (K D, d), with rows sorted by cluster as in the layer `NetVLAD`, and bias (d,)."""
    kernel, bias = _weights(layer, 2)
    size, clusters = shape
    dims = bias.size
    if dim is not None and not 1 <= dim <= dims:
        raise ConversionError(f"--dim must be from 1 to {dims}, the dimensions of its PCA, got {dim}")
    kernel = _fitting(layer, kernel, (size * clusters, dims)).reshape(size, clusters, dims)
    kernel = kernel.transpose(1, 0, 2).reshape(clusters * size, dims)
    return [kernel[:, :dim], bias.ravel()[:dim]]


def _average(net: Any) -> np.ndarray:
    """Returns the mean RGB value, which is subtracted from every pixel."""
    normalization = _only(getattr(_only(getattr(net, "meta", None)), "normalization", None))
    average = np.asarray(getattr(normalization, "averageImage", ()))
    if average.dtype.kind not in "fiu" or average.size < 3 or average.shape[-1] != 3:
        raise ConversionError("it has no net.meta.normalization.averageImage of three channels")
    pixels = average.reshape(-1, 3).astype("float64")
    if not np.allclose(pixels, pixels[0]):
        raise ConversionError(
            "its averageImage is not the same for all pixels, so that it takes photos of one size only"
        )
    return pixels[0]


def _weights(layer: Any, count: int) -> list[np.ndarray]:
    arrays = [np.asarray(array) for array in np.ravel(getattr(layer, "weights", ()))]
    name = _text(layer, "name")
    if len(arrays) != count:
        raise ConversionError(f"its layer {name!r} has {len(arrays)} weights, expected {count}")
    for array in arrays:
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ConversionError(f"its layer {name!r} has weights that are not finite numbers")
    return [array.astype("float32") for array in arrays]


def _fitting(layer: Any, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the array reshaped to `shape`, from which its own shape may differ only in axes of length 1."""
    if [side for side in array.shape if side != 1] != [side for side in shape if side != 1]:
        raise ConversionError(
            f"its layer {_text(layer, 'name')!r} has weights of shape {array.shape}, expected {shape}"
        )
    return array.reshape(shape)


def _text(layer: Any, field: str) -> str:
    """Returns a text field of a layer; objects of MATLAB classes, which scipy cannot read, have no fields."""
    value = getattr(layer, field, None)
    if value is None:
        raise ConversionError(
            "it has a layer that is not a struct: in MATLAB, save the network again with struct(layer) for each layer"
        )
    return str(np.ravel(value)[0]) if np.size(value) else ""


def _only(value: Any) -> Any:
    """Returns the struct in a 1 x 1 array of structs; other values are returned unchanged."""
    return value.ravel()[0] if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1 else value
