"""Image retrieval with Keras: networks, losses, mining, whitening, re-ranking and metrics of the field.

Keras takes seconds to import, so the names below are fetched when first used: the command line answers at once.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import layers as layers
    from . import losses as losses
    from . import metrics as metrics
    from . import reranking as reranking
    from . import whitening as whitening
    from .models import build as build
    from .models import list_models as list_models
    from .models import load as load
    from .multiscale import multi_scale as multi_scale

__version__ = "0.1.0"

_MODULES = ("layers", "losses", "metrics", "reranking", "whitening")
_FUNCTIONS = {"build": "models", "list_models": "models", "load": "models", "multi_scale": "multiscale"}
__all__ = [*_MODULES, *_FUNCTIONS]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f".{_FUNCTIONS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "keras" in sys.modules:
    # Who has Keras already may go on with keras.saving.load_model, which needs our layers and losses registered.
    from . import layers as layers
    from . import losses as losses


def __dir__() -> list[str]:
    return [*globals(), *__all__]
