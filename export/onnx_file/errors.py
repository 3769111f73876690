"""The error raised when the export of an ONNX file fails."""

from keras_retrieval.errors import RetrievalError


class OnnxExportError(RetrievalError, ValueError):
    """A network cannot be converted, its ONNX file differs from Keras, or there are too few photos for measurements."""
