"""Image retrieval with Keras: networks, losses, mining, whitening, re-ranking and metrics.

`import keras_retrieval` does not import Keras, because that takes seconds. The names in `__all__` are imported on
first use.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import layers as layers
    from . import losses as losses
    from . import metrics as metrics
    from . import whitening as whitening
    from .export.collection.collection import Collection as Collection
    from .networks.build import build as build
    from .networks.build import list_models as list_models
    from .networks.build import load as load
    from .networks.multi_scale import multi_scale as multi_scale
    from .ranking import reranking as reranking

__version__ = "0.1.0"

_MODULES = {
    "layers": "layers",
    "losses": "losses",
    "metrics": "metrics",
    "reranking": "ranking.reranking",
    "whitening": "whitening",
    "pipelines": "pipelines",
    "export": "export",
}
_FUNCTIONS = {
    "build": "networks.build",
    "list_models": "networks.build",
    "load": "networks.build",
    "multi_scale": "networks.multi_scale",
    "Collection": "export.collection.collection",
}
__all__ = [*_MODULES, *_FUNCTIONS]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{_MODULES[name]}", __name__)
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f".{_FUNCTIONS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "keras" in sys.modules:
    # A program that has imported Keras may call keras.saving.load_model, which needs the registered classes.
    from . import layers as layers
    from . import losses as losses


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
