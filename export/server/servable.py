"""A loaded version of a model: a SavedModel in a TensorFlow Session, as in TensorFlow Serving."""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .batching_parameters import BatchingParameters
from .errors import ServingError, invalid
from .limits import Deadline, expired
from .tensor_proto import as_array

DEFAULT_SIGNATURE = "serving_default"
TAG = "serve"

# Function that computes tensors on a version, from (version, input arrays by tensor name, names of output tensors,
# deadline) to the output arrays: immediately, in a compute slot, or merged with other requests into a batch.
Run = Callable[["Servable", Mapping[str, np.ndarray], Sequence[str], Deadline], list[np.ndarray]]


class Servable:
    """A loaded SavedModel. Loading it needs neither Keras nor code of the model's author.

    The object counts references: it starts with one reference, and each request that uses it adds one (`acquire`). The
    last `release` closes the session.

    Args:
        path: folder of the version, which contains saved_model.pb.
        name: name of the model.
        version: number of the version.
        tags: tags of the graph to load from the SavedModel.
        session_config: ConfigProto of the session; None for TensorFlow's defaults.

    Attributes:
        path: folder of the version.
        name: name of the model.
        version: number of the version.
        batching: the version's own parameters of batching; None if it has none.
        tensor_content: whether Predict responses have their values in the field tensor_content; see `to_proto`.
        closed: event that is set when the session has been closed.

    Raises:
        Exception: TensorFlow cannot load the folder, for any reason.
    """

    def __init__(
        self, path: Path, name: str, version: int, *, tags: Sequence[str] = (TAG,), session_config: Any = None
    ) -> None:
        import tensorflow as tf

        self.path, self.name, self.version = path, name, version
        self.batching: BatchingParameters | None = None
        self.tensor_content = False
        self.closed = threading.Event()
        self._references, self._lock = 1, threading.Lock()
        self._session: Any = tf.compat.v1.Session(graph=tf.Graph(), config=session_config)
        try:
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.loader.load(self._session, list(tags), str(path))
            self._signatures: dict[str, Any] = dict(meta_graph.signature_def)
            self._session._extend_graph()
        except BaseException:
            self.release()
            raise

    @property
    def signatures(self) -> Mapping[str, Any]:
        """SignatureDef of each signature, by name."""
        return self._signatures

    def compute(
        self, signature: Any, inputs: Mapping[str, np.ndarray], aliases: Sequence[str], run: Run, deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """Computes outputs of a signature.

        Args:
            signature: SignatureDef, one of `signatures`.
            inputs: array of every input of the signature, by input name (alias).
            aliases: names of the outputs to compute.
            run: function that computes tensors on this version.
            deadline: deadline of the request.

        Returns:
            One array per output, by output name.

        Raises:
            ServingError: the computation could not start, such as after the deadline.
            tf.errors.OpError: the graph fails on the inputs.
        """
        feeds = {signature.inputs[alias].name: array for alias, array in inputs.items()}
        values = run(self, feeds, [signature.outputs[alias].name for alias in aliases], deadline)
        return dict(zip(aliases, values, strict=True))

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: Deadline) -> list[np.ndarray]:
        """Computes tensors of the graph from other tensors, on the calling thread.

        Instead of `Session.run`, this method calls the layer below, because `Session.run` casts its inputs and checks
        static shapes. TensorFlow Serving does neither: a wrong dtype is an error, and a model accepts other sizes than
        those in its signature.

        Args:
            feeds: array for each input tensor, by tensor name.
            fetches: names of the tensors to compute.
            deadline: deadline at which the computation is stopped.

        Returns:
            One array per name in `fetches`.

        Raises:
            ServingError: DEADLINE_EXCEEDED if the deadline passed before the computation started, INVALID_ARGUMENT if a
                tensor is not in the graph.
            tf.errors.OpError: the graph fails on the inputs, or the deadline passed during the computation.
        """
        from tensorflow.python.client import pywrap_tf_session

        named = {self._output(name): feeds[name] for name in sorted(feeds)}
        wanted = [self._output(name) for name in fetches]
        options = _run_options(deadline)
        try:
            values = self._session._call_tf_sessionrun(options, named, wanted, [], None)
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        return [as_array(value) for value in values]

    def signature(self, name: str, missing: ServingError) -> Any:
        """Returns a signature.

        Args:
            name: name of the signature; "" for serving_default.
            missing: error to raise if there is no such signature.

        Returns:
            The SignatureDef.
        """
        if (name or DEFAULT_SIGNATURE) not in self.signatures:
            raise missing
        return self.signatures[name or DEFAULT_SIGNATURE]

    def acquire(self) -> None:
        """Adds a reference, which keeps the session open until the corresponding call of `release`."""
        with self._lock:
            self._references += 1

    def release(self) -> None:
        """Removes a reference. After the last one, the session is closed and its memory is returned to the system."""
        with self._lock:
            self._references -= 1
            if self._references:
                return
        self._session.close()
        self._session = None
        release_memory()
        self.closed.set()

    @contextmanager
    def releasing(self) -> Iterator["Servable"]:
        """Provides this object in a `with` statement, at whose end it calls `release`."""
        try:
            yield self
        finally:
            self.release()

    def _output(self, name: str) -> Any:
        try:
            return self._session.graph.get_tensor_by_name(name)._as_tf_output()
        except (KeyError, ValueError):
            raise invalid(f"Tensor {name} is not in the graph") from None


def _run_options(deadline: Deadline) -> Any:
    if deadline.expires is None:
        return None
    import tensorflow as tf
    from tensorflow.python.client import pywrap_tf_session

    milliseconds = int((deadline.remaining() or 0) * 1000)
    if milliseconds < 1:
        raise expired()
    options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


def release_memory() -> None:
    """Makes glibc return freed memory to the operating system; does nothing on systems without glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
