"""Random networks in the published layouts, and their outputs, computed in numpy independently of the converter."""

import numpy as np

RESNETS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
VGG16 = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def checkpoint(architecture, pooling="gem", rng=None, **meta):
    """`meta` and `state_dict` of a network, as the published code saves them."""
    rng = rng or np.random.default_rng(0)
    state = trunk_state(architecture, rng)
    channels = 256 if architecture == "alexnet" else 512 if architecture == "vgg16" else 2048
    if pooling.startswith("gem"):
        p = rng.uniform(2, 3, channels if pooling == "gemmp" else 1).astype("f4")
        state["pool.rpool.p" if meta.get("regional") else "pool.p"] = p
    for key, name in (("local_whitening", "lwhiten"), ("regional", "pool.whiten"), ("whitening", "whiten")):
        if meta.get(key):
            state[f"{name}.weight"] = (rng.normal(size=(channels, channels)) / channels**0.5).astype("f4")
            state[f"{name}.bias"] = (rng.normal(size=channels) / 20).astype("f4")
    whole = {"architecture": architecture, "pooling": pooling, "mean": MEAN, "std": STD, "outputdim": channels, **meta}
    return {"meta": whole, "state_dict": state}


def trunk_state(architecture, rng):
    state = {}

    def convolution(name, inputs, outputs, size, bias=True):
        state[f"{name}.weight"] = (
            rng.normal(size=(outputs, inputs, size, size)) * (2 / (inputs * size**2)) ** 0.5
        ).astype("f4")
        if bias:
            state[f"{name}.bias"] = rng.normal(size=outputs).astype("f4") / 10

    def normalization(name, channels):
        for part, low, high in (("weight", 0.5, 1), ("bias", -0.1, 0.1), ("running_mean", -0.1, 0.1)):
            state[f"{name}.{part}"] = rng.uniform(low, high, channels).astype("f4")
        state[f"{name}.running_var"] = rng.uniform(0.5, 1.5, channels).astype("f4")
        state[f"{name}.num_batches_tracked"] = np.int64(7) * np.ones((), "i8")

    if architecture == "alexnet":
        for place, inputs, outputs, size in ((0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3)):
            convolution(f"features.{place}", inputs, outputs, size)
        convolution("features.10", 256, 256, 3)
    elif architecture == "vgg16":
        place, inputs = 0, 3
        for outputs in VGG16:
            if outputs:
                convolution(f"features.{place}", inputs, outputs, 3)
                inputs = outputs
            place += 2 if outputs else 1
    else:
        convolution("features.0", 3, 64, 7, bias=False)
        normalization("features.1", 64)
        inputs = 64
        for stage, blocks in enumerate(RESNETS[architecture]):
            width = 64 * 2**stage
            for block in range(blocks):
                name = f"features.{stage + 4}.{block}"
                for part, (size_in, size_out, size) in enumerate(
                    ((inputs, width, 1), (width, width, 3), (width, 4 * width, 1)), start=1
                ):
                    convolution(f"{name}.conv{part}", size_in, size_out, size, bias=False)
                    normalization(f"{name}.bn{part}", size_out)
                if block == 0:
                    convolution(f"{name}.downsample.0", inputs, 4 * width, 1, bias=False)
                    normalization(f"{name}.downsample.1", 4 * width)
                inputs = 4 * width
    return state


def convolve(x, kernel, bias=None, stride=1, padding=0):
    """x (C, H, W), kernel (out, in, h, w), as torch defines it."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (1, 2))[:, ::stride, ::stride]
    y = np.tensordot(kernel, windows, ((1, 2, 3), (0, 3, 4)))
    return y if bias is None else y + bias[:, None, None]


def max_pool(x, size, stride, padding=0):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride].max((3, 4))


def relu(x):
    return np.maximum(x, 0)


def feature_map(architecture, state, image, pixels=None, last_relu=True):
    """(C, h, w) of an RGB image (H, W, 3) of 0..255."""
    pixels = (image / 255 - MEAN) / STD if pixels is None else pixels
    x = pixels.astype("float32").transpose(2, 0, 1)
    weights = {name.removeprefix("features."): values for name, values in state.items()}
    if architecture == "alexnet":
        return _alexnet(x, weights)
    return _vgg16(x, weights, last_relu) if architecture == "vgg16" else _resnet(x, weights, RESNETS[architecture])


def _alexnet(x, weights):
    for place, stride, padding, pool in ((0, 4, 2, True), (3, 1, 2, True), (6, 1, 1, False), (8, 1, 1, False)):
        x = relu(convolve(x, weights[f"{place}.weight"], weights[f"{place}.bias"], stride, padding))
        x = max_pool(x, 3, 2) if pool else x
    return relu(convolve(x, weights["10.weight"], weights["10.bias"], 1, 1))


def _vgg16(x, weights, last_relu):
    place = 0
    for outputs in VGG16:
        if outputs:
            x = convolve(x, weights[f"{place}.weight"], weights[f"{place}.bias"], 1, 1)
            x = relu(x) if last_relu or place < 28 else x
            place += 2
        else:
            x = max_pool(x, 2, 2)
            place += 1
    return x


def _resnet(x, weights, stages):
    def step(x, convolution, normalization, stride=1, padding=0):
        x = convolve(x, weights[f"{convolution}.weight"], None, stride, padding)
        gamma, beta, mean, variance = (
            weights[f"{normalization}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    x = max_pool(relu(step(x, "0", "1", 2, 3)), 3, 2, 1)
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            name, stride = f"{stage + 4}.{block}", 2 if stage and not block else 1
            y = relu(step(x, f"{name}.conv1", f"{name}.bn1"))
            y = relu(step(y, f"{name}.conv2", f"{name}.bn2", stride, 1))
            y = step(y, f"{name}.conv3", f"{name}.bn3")
            shortcut = x if block else step(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = relu(y + shortcut)
    return x


def l2(x, axis=0):
    return x / (np.linalg.norm(x, axis=axis, keepdims=True) + 1e-6)


def pool(x, pooling, p=None):
    """(C, h, w) -> (C,), for the poolings on a whole map."""
    if pooling == "mac":
        return x.max((1, 2))
    if pooling == "spoc":
        return x.mean((1, 2))
    return (np.maximum(x, 1e-6) ** p[:, None, None]).mean((1, 2)) ** (1 / p)


def regions(h, w, levels=3):
    """R-MAC's regions (top, left, side), the whole map apart."""
    short, steps = min(h, w), np.arange(2, 8)
    b = (max(h, w) - short) / (steps - 1)
    extra = 0 if h == w else int(np.argmin(np.abs((short**2 - short * b) / short**2 - 0.4))) + 1
    for level in range(1, levels + 1):
        side = int(2 * short / (level + 1))
        half = int(np.floor(side / 2 - 1))
        if side == 0:
            continue
        starts = []
        for length in (h, w):
            count = level + (extra if length > short else 0)
            step = (length - side) / (count - 1) if count > 1 else 0
            starts.append([int(np.floor(half + i * step)) - half for i in range(count)])
        yield from ((top, left, side) for top in starts[0] for left in starts[1])


def described(model, image):
    """A keras.Model's descriptor of one image."""
    return np.asarray(model(image[None].astype("float32")))[0]


def descriptor(saved, image):
    """What the published network computes for one image, at one scale."""
    meta, state = saved["meta"], saved["state_dict"]
    x = feature_map(meta["architecture"], state, image)
    if meta.get("local_whitening"):
        x = np.tensordot(state["lwhiten.weight"], x, 1) + state["lwhiten.bias"][:, None, None]
    p = state.get("pool.rpool.p", state.get("pool.p"))
    if meta.get("regional") or meta["pooling"] == "rmac":
        boxes = [(slice(None), slice(None)), *((slice(t, t + s), slice(c, c + s)) for t, c, s in regions(*x.shape[1:]))]
        kind = "mac" if meta["pooling"] == "rmac" else meta["pooling"]
        vectors = [l2(pool(x[:, rows, columns], kind, p)) for rows, columns in boxes]
        if meta.get("regional"):
            vectors = [l2(state["pool.whiten.weight"] @ v + state["pool.whiten.bias"]) for v in vectors]
        v = l2(np.sum(vectors, 0))
    else:
        v = l2(pool(x, meta["pooling"], p))
    return l2(state["whiten.weight"] @ v + state["whiten.bias"]) if meta.get("whitening") else v
