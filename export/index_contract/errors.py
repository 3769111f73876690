"""Errors of indexes. A damaged index folder raises `FolderError` (pipelines/files/durable.py) instead."""

from keras_retrieval.errors import RetrievalError


class ColumnTableError(RetrievalError, ValueError):
    """A table of photo columns cannot be parsed, or one of its rows names no photo or the photo of an earlier row."""


class CalibrationError(RetrievalError, ValueError):
    """A calibration is missing or damaged, was made for another network, or cannot be made or promise what is asked.

    The message says what to do, which is mostly `keras-retrieval calibrate`.
    """


class CollectionError(RetrievalError, ValueError):
    """A Milvus collection cannot be used as an index.

    The collection does not exist, exists although it may not be replaced, was not made by `keras-retrieval index`, or
    has an unsupported layout.
    """


class IndexFileNotFoundError(RetrievalError, FileNotFoundError):
    """A file that the user named does not exist: a query photo, a table of columns or a list of names."""


class IndexBusyError(RetrievalError, TimeoutError):
    """Another process was still writing to the index, or rebuilding it, when the time limit of the wait was reached."""


class IndexReplacedError(RetrievalError, OSError):
    """Photos were not added, because another process has replaced the index folder since this process opened it.

    The new index contains descriptors of another dimension than those to be added. It is not changed. The caller must
    open the index again.
    """


class IndexWriteError(RetrievalError, OSError):
    """A file of an index could not be written, for another reason than a full disk."""


class MilvusError(RetrievalError, OSError):
    """A Milvus server, or milvus-lite, reported an error for a request."""


class MilvusConnectionError(RetrievalError, ConnectionError):
    """No Milvus server answers, it refuses the credentials, or another process has the milvus-lite file open."""
