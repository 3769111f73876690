"""Errors of indexes. A damaged index folder raises the `FolderError` of pipelines/files instead."""

from keras_retrieval.errors import RetrievalError


class ColumnTableError(RetrievalError, ValueError):
    """A table of photo columns cannot be parsed, or a row does not name a photo or repeats one."""


class CollectionError(RetrievalError, ValueError):
    """A collection is missing, was not made by `keras-retrieval index`, or has a layout that is not supported."""


class IndexFileNotFoundError(RetrievalError, FileNotFoundError):
    """A query photo, a table of columns or a list of names does not exist."""


class IndexBusyError(RetrievalError, TimeoutError):
    """Another process has been writing to the index, or rebuilding it, for longer than the caller waits."""


class IndexReplacedError(RetrievalError, OSError):
    """The index was replaced by an index of other descriptors during a change."""


class MilvusError(RetrievalError, OSError):
    """A Milvus server failed to carry out a request."""


class MilvusConnectionError(RetrievalError, ConnectionError):
    """No Milvus server answers, it refuses the credentials, or another process has the milvus-lite file open."""
