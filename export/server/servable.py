"""One version of a model, loaded as TensorFlow Serving loads it: a SavedModel in a Session, fed by tensor name."""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ServingError, invalid
from .limits import Deadline, expired
from .tensor_proto import as_array

DEFAULT_SIGNATURE = "serving_default"
TAG = "serve"

# Computes a request on a servable: at once, in a compute slot, or merged with other requests into a batch.
Run = Callable[["Servable", Mapping[str, np.ndarray], Sequence[str], Deadline], list[np.ndarray]]


class Servable:
    """A loaded SavedModel. Needs no Keras and no code of the model's author.

    Reference counted: its loader and every request that uses it hold a reference, and the last `release` closes it.

    Args:
        path: version folder with saved_model.pb.
        name: name of the model.
        version: number of the version.

    Raises:
        Exception: TensorFlow cannot load the folder, in whatever way.
    """

    def __init__(self, path: Path, name: str, version: int) -> None:
        import tensorflow as tf

        self.path, self.name, self.version = path, name, version
        self.closed = threading.Event()
        self._references, self._lock = 1, threading.Lock()
        self._session: Any = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.loader.load(self._session, [TAG], str(path))
            self.signatures: dict[str, Any] = dict(meta_graph.signature_def)
            self._session._extend_graph()
        except BaseException:
            self.release()
            raise

    def compute(
        self, signature: Any, inputs: Mapping[str, np.ndarray], aliases: Sequence[str], run: Run, deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """Computes outputs of a signature from its inputs, both by alias.

        Args:
            signature: one of `signatures`.
            inputs: alias -> array, for every input.
            aliases: the outputs to compute.
            run: computes tensors on this version.
            deadline: the deadline of the request.
        """
        feeds = {signature.inputs[alias].name: array for alias, array in inputs.items()}
        values = run(self, feeds, [signature.outputs[alias].name for alias in aliases], deadline)
        return dict(zip(aliases, values, strict=True))

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: Deadline) -> list[np.ndarray]:
        """Computes tensors from tensors.

        Calls the layer below the public `Session.run`, which casts its inputs and checks static shapes. A server does
        neither, so that a wrong dtype is an error and a model accepts sizes other than those of its signature.

        Args:
            feeds: tensor name -> array.
            fetches: tensor names.
            deadline: ends the computation.

        Returns:
            One array per fetch.

        Raises:
            ServingError: DEADLINE_EXCEEDED before the computation begins.
            tf.errors.OpError: the graph fails on the input; or DEADLINE_EXCEEDED during the computation.
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
        """The SignatureDef called `name`, "" for the default one. Raises `missing` if there is none."""
        if (name or DEFAULT_SIGNATURE) not in self.signatures:
            raise missing
        return self.signatures[name or DEFAULT_SIGNATURE]

    def acquire(self) -> None:
        """Adds a reference."""
        with self._lock:
            self._references += 1

    def release(self) -> None:
        """Drops a reference. The last one closes the session and returns the memory of its weights to the system."""
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
        """A context that calls `release` at its end."""
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
    """Makes glibc return freed memory to the system, which it would keep otherwise; does nothing without glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
