"""Edge filter: a trainable layer that makes edge maps of photos resemble sketches."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError

MIN_T = 0.01


@keras.saving.register_keras_serializable("keras_retrieval")
class EdgeFilter(keras.layers.Layer):
    """Equalises the strengths of strong edges and suppresses weak edges: y = w x^p / (1 + exp(-s (x - t))).

    x is the edge strength of a pixel. p and t are trainable; w and s are constants. In x^p, strengths below 1e-6 are
    replaced by 1e-6, because x^p has no finite derivative at 0 for p below 1. So a strength of 0 gives not 0 but, with
    the default values, about 2e-24.

    Args:
        p: initial power, above 0. The smaller p is, the more similar the strengths of strong edges become. A constraint
            keeps p at 0 or above in training.
        t: initial threshold on the edge strength, at least 0.01; weaker edges are suppressed. A constraint keeps t at
            0.01 or above in training.
        w: scale of the output, above 0. An edge of strength 1 gives w, unless t is near 1 or above.
        s: steepness of the sigmoid at the threshold, above 0.
        t_speed: factor on the updates of t, above 0. The stored weight is t / t_speed, so that one step of Adam changes
            t by `t_speed` times as much as p. The published value is 0.1.

    Input shape:
        (B, H, W, C), edge strengths in 0..1.

    Output shape:
        (B, H, W, C), in 0..w.

    Raises:
        ArgumentError: p, w, s or t_speed is not above 0, or t is below 0.01.

    Example:
        >>> EdgeFilter()(np.full((1, 1, 1, 1), 0.64))
        [[[[8.0]]]]

    References:
        Radenovic, Tolias, Chum: Deep Shape Matching. ECCV 2018.
    """

    def __init__(
        self, p: float = 0.5, t: float = 0.1, w: float = 10.0, s: float = 500.0, t_speed: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for name, value in {"p": p, "w": w, "s": s, "t_speed": t_speed}.items():
            if not value > 0:
                raise ArgumentError(f"{name} of the edge filter must be above 0, got {value}")
        if not t >= MIN_T:
            raise ArgumentError(f"t of the edge filter must be at least {MIN_T}, got {t}")
        self.initial_p, self.initial_t = float(p), float(t)
        self.w, self.s, self.t_speed = float(w), float(s), float(t_speed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.power = self._scalar("p", self.initial_p, 0.0)
        self.scaled_t = self._scalar("t", self.initial_t / self.t_speed, MIN_T / self.t_speed)

    def _scalar(self, name: str, value: float, least: float) -> Any:
        return self.add_weight(
            name=name,
            shape=(1,),
            initializer=keras.initializers.Constant(value),
            constraint=lambda weight: ops.maximum(weight, least),
            dtype="float32",
            autocast=False,
        )

    @property
    def p(self) -> Any:
        """The current power p as a float32 tensor (1,); the layer must be built."""
        return ops.convert_to_tensor(self.power)

    @property
    def t(self) -> Any:
        """The current threshold t as a float32 tensor (1,); the layer must be built."""
        return ops.convert_to_tensor(self.scaled_t) * self.t_speed

    @property
    def undecayed(self) -> list[Any]:
        """The weights p and t, which training excludes from its L2 penalty; the layer must be built."""
        return [self.power, self.scaled_t]

    def call(self, x: Any) -> Any:
        x = ops.cast(x, "float32")
        # x^p has no finite derivative at 0. With the default t and s, clamping changes the output by less than 1e-23,
        # because the sigmoid is 2e-22 at 0.
        strength = ops.power(ops.maximum(x, 1e-6), self.p)
        return ops.cast(self.w * strength * ops.sigmoid(self.s * (x - self.t)), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "p": self.initial_p,
            "t": self.initial_t,
            "w": self.w,
            "s": self.s,
            "t_speed": self.t_speed,
        }
