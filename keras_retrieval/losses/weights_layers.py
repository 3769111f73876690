"""Layers that hold the weights of losses: class centres, and a memory of descriptors.

They take part in training only: the saved network does not contain them.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..errors import ArgumentError


class DescriptorMemory(keras.layers.Layer):
    """A queue of descriptors with their labels, in which new ones replace the oldest.

    Args:
        size: number of descriptors, at least 1.
        dimensions: number D of dimensions.

    Raises:
        ArgumentError: `size` is below 1.
    """

    def __init__(self, size: int, dimensions: int) -> None:
        super().__init__(name="descriptor_memory", dtype="float32")
        if size < 1:
            raise ArgumentError(f"size must be at least 1, got {size}")
        self.size, self.dimensions = size, dimensions
        empty = keras.initializers.Constant(-1.0)

        def state(name: str, shape: tuple[int, ...], initializer: Any, dtype: str = "float32") -> Any:
            return self.add_weight(
                name=name, shape=shape, initializer=initializer, dtype=dtype, trainable=False, autocast=False
            )

        self.descriptors = state("descriptors", (size, dimensions), "zeros")
        self.labels = state("labels", (size,), empty)  # below 0 where there is no descriptor yet
        self.oldest = state("oldest", (), "zeros", "int32")
        self.built = True

    def replace_oldest(self, descriptors: Any, labels: Any) -> tuple[Any, Any, Any]:
        """Puts K descriptors into the memory.

        Args:
            descriptors: (K, D), K at most `size`.
            labels: (K,), below 0 for padding.

        Returns:
            All descriptors of the memory, (size, D), their labels, (size,), and a mask (K, size) that is true for the
            place of each of the K descriptors.

        Raises:
            ArgumentError: there are more descriptors than the memory has places.
        """
        count = descriptors.shape[0]
        if count is not None and count > self.size:
            raise ArgumentError(f"the memory has {self.size} places, and the batch {count} photos: give a larger size")
        oldest = ops.convert_to_tensor(self.oldest)
        places = (oldest + ops.arange(ops.shape(descriptors)[0], dtype="int32")) % self.size
        at = places[:, None]
        self.descriptors.assign(ops.scatter_update(self.descriptors, at, descriptors))
        self.labels.assign(ops.scatter_update(self.labels, at, ops.cast(labels, "float32")))
        self.oldest.assign((oldest + ops.shape(descriptors)[0]) % self.size)
        own = ops.equal(at, ops.arange(self.size, dtype="int32")[None])
        return ops.convert_to_tensor(self.descriptors), ops.convert_to_tensor(self.labels), own


class ClassCentres(keras.layers.Layer):
    """Trainable centres of classes, some for each class.

    Args:
        classes: number C of classes, at least 1.
        dimensions: number D of dimensions.
        sub_centres: number S of centres of each class, at least 1.
        speed: factor on the updates of the centres, above 0: the initial length of the stored weights is 1 / speed.
            Only their directions count, so that a step of Adam, whose size is about the learning rate, turns them
            by about speed x learning rate.

    Raises:
        ArgumentError: an argument is out of range.
    """

    def __init__(self, classes: int, dimensions: int, sub_centres: int = 1, speed: float = 1.0) -> None:
        super().__init__(name="class_centres", dtype="float32")
        for name, value in {"classes": classes, "sub_centres": sub_centres}.items():
            if value < 1:
                raise ArgumentError(f"{name} must be at least 1, got {value}")
        if not speed > 0:
            raise ArgumentError(f"speed must be above 0, got {speed}")
        self.classes, self.dimensions, self.sub_centres, self.speed = classes, dimensions, sub_centres, speed
        spread = keras.initializers.RandomNormal(stddev=1 / speed / np.sqrt(dimensions))
        self.centres = self.add_weight(
            name="centres", shape=(classes, sub_centres, dimensions), initializer=spread, autocast=False
        )
        self.built = True
