"""The error raised when the export of an ONNX file fails."""

from keras_retrieval.errors import RetrievalError


class OnnxExportError(RetrievalError, ValueError):
    """A network cannot be exported as ONNX.

    The network cannot be converted, the descriptors of its ONNX file differ too much from those of Keras, or there are
    too few photos for the measurements.
    """
