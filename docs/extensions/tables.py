"""Reference tables read from the code: `{from-code} backbones`, and the other names of TABLES."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

PIXELS = {
    "caffe": "BGR, mean subtracted (`caffe`)",
    "torch": "RGB / 255, mean and deviation (`torch`)",
    "torch-bgr": "BGR / 255, mean and deviation (`torch-bgr`)",
    "none": "by the trunk's first layers (`none`)",
}
LEFT_OUT = {"name", "dtype", "kwargs", "options", "weights", "p_speed"}


def backbones() -> Iterator[str]:
    """The trunks that `build` supports."""
    from keras_retrieval.networks.backbones import BACKBONES

    yield "| trunk | ImageNet weights | pixels |\n|---|---|---|"
    for name, row in BACKBONES.items():
        weights = "Keras, or a file" if row.published else "a file, or `convert`"
        pixels = PIXELS[row.normalization] + ("; of a file: state it" if row.ambiguous else "")
        yield f"| `{name}` | {weights} | {pixels} |"


def poolings() -> Iterator[str]:
    """The poolings that `build` supports, with the options of each."""
    from keras_retrieval.networks.build import POOLINGS

    yield "| pooling | layer | options of `build` | what it computes |\n|---|---|---|---|"
    for name, make in POOLINGS.items():
        function = getattr(make, "func", make)
        fixed = getattr(make, "keywords", {})
        options = [
            f"`{key}={parameter.default!r}`"
            for key, parameter in inspect.signature(function).parameters.items()
            if parameter.default is not parameter.empty and key not in LEFT_OUT | set(fixed)
        ]
        shown = f"`{function.__name__}`" if inspect.isclass(function) else "`RegionalPooling`"
        yield f"| `{name}` | {shown} | {', '.join(options)} | {first_sentence(function)} |"


def losses() -> Iterator[str]:
    """All losses, with the formula that the docstring states."""
    module = importlib.import_module("keras_retrieval.losses")
    yield "| loss | what it does |\n|---|---|"
    for name, loss in vars(module).items():
        if inspect.isclass(loss) and name.endswith("Loss"):
            text = inspect.getdoc(loss) or ""
            summary = re.split(r"\n\n(?:Args|Call arguments|Raises|Example|References)", text)[0]
            yield f"| `{name}{_defaults(loss)}` | {_cell(summary)} |"


def methods() -> Iterator[str]:
    """The methods at query time, as `--rerank` takes them."""
    from keras_retrieval.ranking import methods as module

    meanings = next(value for key, value in vars(module).items() if key.upper().strip("_") == "MEANINGS")
    yield "| method | what it does | defaults |\n|---|---|---|"
    for name, values in module.METHODS.items():
        form = ":".join([name, *(key for key, _ in values)])
        defaults = ", ".join(
            f"{key} {value if isinstance(value, str) else format(value, 'g')}" for key, value in values
        )
        yield f"| `{form}` | {_cell(meanings[name])} | {defaults} |"


def datasets() -> Iterator[str]:
    """The datasets that `evaluate` supports."""
    from keras_retrieval.pipelines.evaluation.datasets import DATASETS

    yield ", ".join(f"`{name}`" for name in DATASETS)


def recipes() -> Iterator[str]:
    """The defaults of `train` by pooling."""
    from keras_retrieval.pipelines.training.recipe import RECIPE, RECIPES

    names = list(RECIPES)
    yield "| option | most networks | " + " | ".join(f"`{name}`" for name in names) + " |"
    yield "|---|---|" + "---|" * len(names)
    for option, value in RECIPE.items():
        others = [_value(RECIPES[name].get(option, value)) for name in names]
        yield f"| `--{option.replace('_', '-')}` | {_value(value)} | {' | '.join(others)} |"


def _value(value: Any) -> str:
    return "none" if value in (None, "") else f"`{value:.3g}`" if isinstance(value, float) else f"`{value}`"


def serving_flags() -> Iterator[str]:
    """The flags of TensorFlow Serving's command, with what this package's server does with each."""
    from keras_retrieval.export.server.model_server_flags import FLAGS, THREADS, Use

    prefixes = {Use.SERVED: "", Use.IDLE: "**no effect:** ", Use.REFUSED: "**refused:** "}
    yield "| flag | default | |\n|---|---|---|"
    for flag in FLAGS:
        default = "4 per CPU" if flag.default == THREADS and flag.name.endswith("threads") else _default(flag.default)
        yield f"| `--{flag.name}` | {default} | {prefixes[flag.use]}{flag.note} |"


def _default(value: Any) -> str:
    return f"`{str(value).lower()}`" if value != "" else ""


def errors() -> Iterator[str]:
    """Every error class of the package, below the one base class, as a list."""
    base = _error_base()

    def below(kind: type, depth: int) -> Iterator[str]:
        builtin = [f"`{parent.__name__}`" for parent in kind.__bases__ if parent.__module__ == "builtins"]
        beside = f" (also {', '.join(builtin)})" if builtin and kind is not base else ""
        yield f"{'  ' * depth}- `{kind.__name__}`{beside}, in `{public_path(kind)}`: {first_sentence(kind)}"
        below_it: list[type] = kind.__subclasses__()
        children = {child.__name__: child for child in below_it if not child.__name__.startswith("_")}
        for name in sorted(children):
            yield from below(children[name], depth + 1)

    yield from below(base, 0)


def public_path(kind: type) -> str:
    """The module of a class by the name that users import it by."""
    module = kind.__module__
    return module if module.startswith("keras_retrieval") else f"keras_retrieval.{module}"


def _error_base() -> type:
    """The base class, with every module imported that may define an error."""
    from keras_retrieval.errors import RetrievalError

    for part in ("keras_retrieval", "keras_retrieval.pipelines", "keras_retrieval.export"):
        for found in pkgutil.walk_packages(importlib.import_module(part).__path__, f"{part}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    return RetrievalError


def first_sentence(thing: Any) -> str:
    """The summary line of a docstring, for a cell."""
    return _cell((inspect.getdoc(thing) or "").split("\n\n")[0])


def _defaults(loss: type) -> str:
    values = [
        f"{key}={parameter.default!r}"
        for key, parameter in inspect.signature(loss).parameters.items()
        if key not in ("reduction", "name", "kwargs") and parameter.default is not parameter.empty
    ]
    return f"({', '.join(values)})"


def _cell(text: str) -> str:
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    pieces[::2] = [re.sub(r"([\\<>*|_\[\]])", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces).replace("|", "\\|").replace("\\\\|", "\\|")


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "backbones": backbones,
    "poolings": poolings,
    "losses": losses,
    "methods": methods,
    "datasets": datasets,
    "recipes": recipes,
    "serving-flags": serving_flags,
    "errors": errors,
}


class FromCode(SphinxDirective):
    """`{from-code} NAME`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table's nodes."""
        return self.parse_text_to_nodes("\n".join(TABLES[self.arguments[0]]()))


def setup(app: Any) -> dict[str, Any]:
    """Adds the directive."""
    app.add_directive("from-code", FromCode)
    return {"parallel_read_safe": True}
