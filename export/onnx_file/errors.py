"""The error of exporting an ONNX file."""

from keras_retrieval.errors import RetrievalError


class OnnxExportError(RetrievalError, ValueError):
    """A network cannot be converted, its ONNX file differs from Keras, or the photos for it are too few."""
