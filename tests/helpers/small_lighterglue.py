"""LighterGlue's weights with random values, and its computation by loops and in double precision."""

import numpy as np

WIDTH, LAYERS = 96, 6


def random_matcher(seed=0):
    """A state dict of the published form, with random values."""
    rng = np.random.default_rng(seed)
    shapes = {"input_proj": (WIDTH, 64)}
    for layer in range(LAYERS):
        attention, cross = (f"transformers.{layer}.{kind}_attn" for kind in ("self", "cross"))
        shapes |= {f"{attention}.Wqkv": (3 * WIDTH, WIDTH), f"{attention}.out_proj": (WIDTH, WIDTH)}
        shapes |= {f"{cross}.{part}": (WIDTH, WIDTH) for part in ("to_qk", "to_v", "to_out")}
        for name in (attention, cross):
            shapes |= {f"{name}.ffn.0": (2 * WIDTH, 2 * WIDTH), f"{name}.ffn.3": (WIDTH, 2 * WIDTH)}
        assignment = f"log_assignment.{layer}"
        shapes |= {f"{assignment}.matchability": (1, WIDTH), f"{assignment}.final_proj": (WIDTH, WIDTH)}
    tensors = {"posenc.Wr.weight": rng.normal(size=(WIDTH // 2, 2))}
    for name, (outputs, inputs) in shapes.items():
        tensors[f"{name}.weight"] = rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, outputs)
    for layer in range(LAYERS):
        for kind in ("self", "cross"):
            name = f"transformers.{layer}.{kind}_attn.ffn.1"
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = rng.uniform(0.5, 1.5, 192), rng.normal(0, 0.1, 192)
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def probabilities(tensors, places, rows):
    """The logarithms of the probabilities that features match, (n, m), without dropping any; two photos each."""
    tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def linear(name, values):
        return values @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def softmax(values):
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def updated(name, values, message):
        hidden = linear(f"{name}.0", np.concatenate([values, message], axis=-1))
        hidden = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(hidden.var(-1, keepdims=True) + 1e-5)
        hidden = hidden * tensors[f"{name}.1.weight"] + tensors[f"{name}.1.bias"]
        from math import erf

        hidden = hidden * 0.5 * (1 + np.vectorize(erf)(hidden / np.sqrt(2)))
        return values + linear(f"{name}.3", hidden)

    def turned(values, angles):
        """Each pair of neighbouring numbers is a point of the plane, which is turned."""
        points = values[:, 0::2] + 1j * values[:, 1::2]
        points = points * np.exp(1j * angles)
        return np.stack([points.real, points.imag], axis=-1).reshape(values.shape)

    angles = [place.astype(np.float64) @ tensors["posenc.Wr.weight"].T for place in places]
    states = [linear("input_proj", row.astype(np.float64)) for row in rows]
    for layer in range(LAYERS):
        name = f"transformers.{layer}.self_attn"
        for photo, (state, angle) in enumerate(zip(states, angles, strict=True)):
            query, key, value = linear(f"{name}.Wqkv", state).reshape(len(state), WIDTH, 3).transpose(2, 0, 1)
            weights = softmax(turned(query, angle) @ turned(key, angle).T / np.sqrt(WIDTH))
            states[photo] = updated(f"{name}.ffn", state, linear(f"{name}.out_proj", weights @ value))
        name = f"transformers.{layer}.cross_attn"
        keys, values = ([linear(f"{name}.{part}", state) for state in states] for part in ("to_qk", "to_v"))
        similar = keys[0] @ keys[1].T / np.sqrt(WIDTH)
        messages = softmax(similar) @ values[1], softmax(similar.T) @ values[0]
        states = [
            updated(f"{name}.ffn", state, linear(f"{name}.to_out", message))
            for state, message in zip(states, messages, strict=True)
        ]
    name = f"log_assignment.{LAYERS - 1}"
    one, other = (linear(f"{name}.final_proj", state) for state in states)
    similar = one @ other.T / np.sqrt(WIDTH)
    able = [1 / (1 + np.exp(-linear(f"{name}.matchability", state))) for state in states]
    return np.log(softmax(similar) * softmax(similar.T).T * able[0] * able[1].T)
