"""Gradients on whichever Keras backend the tests run."""

import keras
import numpy as np
from keras import ops


def gradient(function, x, variable=None):
    """d function(x) / d x, or / d variable, as numpy."""
    if keras.backend.backend() == "jax":
        import jax

        if variable is None:
            return np.asarray(jax.grad(lambda x: function(x))(ops.convert_to_tensor(x)))

        def of_value(value):
            with keras.StatelessScope([(variable, value)]):
                return function(ops.convert_to_tensor(x))

        return np.asarray(jax.grad(of_value)(variable.value))
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x if variable is None else variable.value).numpy()
