"""Exported networks, nearest-neighbour indexes, the server and its clients.

Each step, such as `index` or `serve`, is a function of this package (`export.index(...)`), imported at the first
access.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_retrieval.steps import steps_of

if TYPE_CHECKING:
    from .application.app import app as app
    from .application.demo import demo as demo
    from .calibration.calibrate import calibrate as calibrate
    from .client.describe import describe as describe
    from .client.query import query as query
    from .grouping.groups import groups as groups
    from .indexes.index import index as index
    from .indexes.search import search as search
    from .indexes.update import update as update
    from .localizing.localize import localize as localize
    from .onnx_file.export_onnx import export_onnx as export_onnx
    from .savedmodel.export_saved_model import export_saved_model as export_saved_model
    from .server.serve import serve as serve

_STEPS = steps_of("export")
__all__ = [*_STEPS]


def __getattr__(name: str) -> Any:
    if name in _STEPS:
        return getattr(importlib.import_module(_STEPS[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_STEPS]
