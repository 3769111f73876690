"""Spares a Python process of the tests two of the five seconds of CPU that `import keras` takes in this environment.

Keras and TensorFlow import scikit-learn, pandas, SciPy and JAX where they are installed, though nothing here uses what
they do with them. tests/conftest.py puts this folder on PYTHONPATH, from which each process reads this file as it
starts; there the two find none of these packages, as in an install without extras. All other modules find them.
"""

import os
import sys

_SPARED = {"sklearn", "pandas", "scipy", "jax"}


class _Spared:
    """A finder of modules, asked before all others."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name not in _SPARED or (name != "sklearn" and os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow"):
            return
        frame = sys._getframe(1)
        while frame.f_back and frame.f_globals.get("__name__", "").startswith("importlib."):
            frame = frame.f_back
        if frame.f_globals.get("__name__", "").split(".")[0] in ("keras", "tensorflow"):
            raise ModuleNotFoundError(f"{name} is not imported by Keras in tests: {__file__}", name=name)


sys.meta_path.insert(0, _Spared)
