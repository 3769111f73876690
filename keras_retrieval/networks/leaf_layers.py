"""The layers of a model that own weights, also within nested models."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import keras

from ..inert_files.keras_file import snake_case


@dataclass(frozen=True)
class Leaf:
    """A layer with weights.

    Attributes:
        name: its name.
        slots: the groups in which Keras saves it, outermost first, such as ("sequential_1", "conv2d").
        layer: the layer.
    """

    name: str
    slots: tuple[str, ...]
    layer: keras.layers.Layer

    @property
    def automatic(self) -> bool:
        """Whether Keras chose the name, so that it differs between processes."""
        kind = snake_case(type(self.layer).__name__)
        return self.name == kind or self.name.removeprefix(f"{kind}_").isdigit()


def leaf_layers(model: keras.Model, inside: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Lists all layers with weights, in order; nested models are replaced by their layers."""
    used: Counter[str] = Counter()
    for layer in model.layers:
        kind = snake_case(type(layer).__name__)
        slots = (*inside, f"{kind}_{used[kind]}" if used[kind] else kind)
        used[kind] += 1
        if isinstance(layer, keras.Model):
            yield from leaf_layers(layer, slots)
        elif layer.weights:
            yield Leaf(layer.name, slots, layer)
