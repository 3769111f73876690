"""The tensors of DINOv2 and DINOv3 under one set of names, whichever code saved them.

The names are those of DINOv2's own code, with two exceptions: feed-forward networks of SwiGLU are called mlp.fc1 (both
halves) and mlp.fc2, too, and DINOv3's storage tokens are register tokens.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..layers.token_sequence import Interpolation


@dataclass(frozen=True)
class DinoTensors:
    """The tensors of a file.

    Attributes:
        tensors: all tensors of the file, those of a DINO under the names above. What stands before them is unchanged.
        interpolation: how the code of the file resizes positions, see `layers.TokenSequence`; None if the file has
            no DINOv2.
    """

    tensors: dict[str, np.ndarray]
    interpolation: Interpolation | None


_PLAIN = (
    (r"storage_tokens$", "register_tokens"),
    (r"blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # chunks of training checkpoints
    (r"mlp\.w12\.", "mlp.fc1."),
    (r"mlp\.w3\.", "mlp.fc2."),
)
_HUGGING_FACE = (
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.mask_token$", "mask_token"),
    (r"embeddings\.register_tokens$", "register_tokens"),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"embeddings\.patch_embeddings\.(weight|bias)$", r"patch_embed.proj.\1"),
    (r"(?:encoder\.|model\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"attention\.attention\.(query|key|value)\.", r"attn.\1."),
    (r"attention\.output\.dense\.", "attn.proj."),
    (r"attention\.q_proj\.", "attn.query."),
    (r"attention\.k_proj\.", "attn.key."),
    (r"attention\.v_proj\.", "attn.value."),
    (r"attention\.o_proj\.", "attn.proj."),
    (r"layer_scale([12])\.lambda1$", r"ls\1.gamma"),
    (r"mlp\.weights_in\.", "mlp.fc1."),
    (r"mlp\.weights_out\.", "mlp.fc2."),
    (r"mlp\.up_proj\.", "mlp.fc1."),
    (r"mlp\.down_proj\.", "mlp.fc2."),
    (r"mlp\.gate_proj\.", "mlp.w1."),
    (r"(^|\.)layernorm\.", r"\1norm."),
)


def dino_names(tensors: Mapping[str, np.ndarray]) -> DinoTensors:
    """Renames and joins the tensors of a DINOv2 or DINOv3 of its authors' code or of Hugging Face's.

    Args:
        tensors: the tensors of a file, with anything in front of their names.
    """
    hugging_face = any(name.endswith("embeddings.cls_token") for name in tensors)  # ConvNeXts have none
    own = any(name.endswith("patch_embed.proj.weight") for name in tensors)
    if not hugging_face and not own:
        return DinoTensors(dict(tensors), None)
    rules = _HUGGING_FACE if hugging_face else _PLAIN
    found: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name, count=1)
        found[name] = array
    _join(found, "attn.{}", ("query", "key", "value"), "attn.qkv")
    if hugging_face:
        _join(found, "mlp.{}", ("w1", "fc1"), "mlp.fc1")
    else:
        _join(found, "mlp.{}", ("w1", "w2"), "mlp.fc1")
    _clear_key_bias(found)
    if not any(name.endswith("pos_embed") for name in found):
        return DinoTensors(found, None)
    registers = any(name.endswith("register_tokens") for name in found)
    return DinoTensors(found, "antialias" if registers else "size" if hugging_face else "offset")


def _join(tensors: dict[str, np.ndarray], form: str, parts: tuple[str, ...], whole: str) -> None:
    """Concatenates the weights and biases of Dense layers that a block computes as one, in place."""
    first = form.format(parts[0])
    for name in [name for name in tensors if name.endswith(f"{first}.weight")]:
        start = name.removesuffix(f"{first}.weight")
        for kind in ("weight", "bias"):
            names = [f"{start}{form.format(part)}.{kind}" for part in parts]
            given = {name: tensors.pop(name) for name in names if name in tensors}
            if kind == "bias" and given:  # DINOv3's keys have none
                zeros = np.zeros_like(next(iter(given.values())))
                given = {name: given.get(name, zeros) for name in names}
            if len(given) == len(names) and len({array.shape[1:] for array in given.values()}) == 1:
                tensors[f"{start}{whole}.{kind}"] = np.concatenate(list(given.values()))
            else:
                tensors.update(given)


def _clear_key_bias(tensors: dict[str, np.ndarray]) -> None:
    """DINOv3 multiplies the bias of queries, keys and values by a mask that is 0 for the keys, or was never set."""
    for name in [name for name in tensors if name.endswith("qkv.bias_mask")]:
        del tensors[name]
        bias = tensors.get(name.removesuffix("_mask"))
        if bias is not None and len(bias) % 3 == 0:
            third = len(bias) // 3
            bias = np.array(bias, "float32")
            bias[third : 2 * third] = 0
            tensors[name.removesuffix("_mask")] = bias
