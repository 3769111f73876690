"""Edge filter: what an edge map of a photo must lose to be like a sketch."""

from typing import Any

import keras
from keras import ops

LEAST_T = 0.01


@keras.saving.register_keras_serializable("keras_retrieval")
class EdgeFilter(keras.layers.Layer):
    """Evens out strong edges and drops weak ones, y = w x^p / (1 + exp(-s (x - t))) (Radenovic et al. ECCV 2018).

    p and t learn, w and s stay. Where there is no edge there is none behind the filter.

    Args:
        p: the power at the start, > 0: the smaller, the more alike strong edges become. It never falls below 0.
        t: the strength at the start below which edges are dropped. It never falls below 0.01.
        w: the strength of an edge of strength 1 behind the filter.
        s: how sharply t separates.
        t_speed: the weight holds t / t_speed, so that a step of Adam moves t `t_speed` times as far as p, as `GeM`
            does with its p. Published: 0.1.

    Input shape:
        (B, H, W, C), 0..1.

    Output shape:
        (B, H, W, C).

    Raises:
        ValueError: p, w, s or t_speed is not above 0, or t is below 0.01.

    Example:
        >>> EdgeFilter()(np.full((1, 1, 1, 1), 0.64))
        [[[[8.0]]]]
    """

    def __init__(
        self, p: float = 0.5, t: float = 0.1, w: float = 10.0, s: float = 500.0, t_speed: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if min(p, w, s, t_speed) <= 0 or t < LEAST_T:
            raise ValueError(
                f"an edge filter needs p, w, s, t_speed > 0 and t >= {LEAST_T}, not p={p}, w={w}, s={s}, "
                f"t_speed={t_speed}, t={t}"
            )
        self.initial_p, self.initial_t = float(p), float(t)
        self.w, self.s, self.t_speed = float(w), float(s), float(t_speed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.power = self._scalar("p", self.initial_p, 0.0)
        self.scaled_t = self._scalar("t", self.initial_t / self.t_speed, LEAST_T / self.t_speed)

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
        """The power as it stands, float32 (1,)."""
        return ops.convert_to_tensor(self.power)

    @property
    def t(self) -> Any:
        """The threshold as it stands, float32 (1,)."""
        return ops.convert_to_tensor(self.scaled_t) * self.t_speed

    @property
    def undecayed(self) -> list[Any]:
        """The weights that the L2 penalty of a training leaves out."""
        return [self.power, self.scaled_t]

    def call(self, x: Any) -> Any:
        x = ops.cast(x, "float32")
        # x^p has no derivative at 0; the factor behind it is 0 there, in float32, whatever the power.
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
