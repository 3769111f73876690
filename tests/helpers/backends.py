"""Functions of arrays on whichever Keras backend the tests run: computed, or differentiated.

JAX compiles each operation outside of `jax.jit` by itself, for every shape, which takes far longer than the operations;
here a function is one program. A layer must be built before, as weights are not made while a program is traced.
"""

import keras
import numpy as np
import pytest
from keras import ops


def run(function, *arrays):
    """The function of numpy arrays, or of lists or None, in one program on JAX."""
    if keras.backend.backend() == "jax":
        import jax

        # jax.jit keeps the program of a function, and with it the weights that a layer had.
        return jax.jit(lambda *arrays: function(*arrays))(*arrays)
    return function(*arrays)


slow_on_jax = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX compiles it for seconds, and a smaller test there runs the same code"
)


def value_and_gradient(function):
    """A function of x and other arrays: the value of `function`, and d value / d x, as numpy; on JAX one program."""
    if keras.backend.backend() == "jax":
        import jax

        program = jax.jit(jax.value_and_grad(function))
        return lambda x, *rest: tuple(map(np.asarray, program(ops.convert_to_tensor(x), *rest)))
    import tensorflow as tf

    def found(x, *rest):
        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x, *rest)
        return y.numpy(), tape.gradient(y, x).numpy()

    return found


def call(layer, x, mask=None):
    """A layer of an array, or of a list of arrays, built before."""
    if not layer.built:
        layer.build([part.shape for part in x] if isinstance(x, list) else x.shape)
    if mask is None:
        return run(layer, x)
    return run(lambda x, mask: layer(x, mask=mask), x, mask)


def gradient(function, x, variable=None):
    """d function(x) / d x, or / d variable, as numpy."""
    if keras.backend.backend() == "jax":
        import jax

        if variable is None:
            return np.asarray(jax.jit(jax.grad(lambda x: function(x)))(ops.convert_to_tensor(x)))

        def of_value(value):
            with keras.StatelessScope([(variable, value)]):
                return function(ops.convert_to_tensor(x))

        return np.asarray(jax.jit(jax.grad(of_value))(variable.value))
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x if variable is None else variable.value).numpy()
