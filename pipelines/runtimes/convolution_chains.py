"""Cuts the chains of convolutions out of an .onnx network, for ncnn, which computes them by Winograd's method.

A chain is a sequence of 3 x 3 convolutions, ReLUs and max poolings, each of which is the only one to read what the one
before it gives: the whole trunk of a VGG, or an AlexNet's from its third convolution, once for each scale of the photo.
What comes before and after the chains remains ONNX: the normalization of pixels, resizing, larger convolutions, the
pooling, the whitening.

Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", https://arxiv.org/abs/1509.09308.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..networks.errors import NetworkError

SHARE = 0.8
"""The least share of the weights of all convolutions that chains must hold; a ResNet's hold only its first layer's."""


class Chain(NamedTuple):
    """A chain of convolutions.

    Attributes:
        source: name of the tensor (B, C, H, W) that it reads.
        target: name of the tensor (B, D, H', W') that it gives.
        param: its layers, the text of ncnn's .param file, with the blobs `in` and `out`.
        weights: their weights, the content of ncnn's .bin file.
    """

    source: str
    target: str
    param: str
    weights: bytes


class Cut(NamedTuple):
    """A network whose chains are cut out.

    Attributes:
        chains: the chains. None reads what another has given.
        before: onnx.ModelProto that maps the network's input to the chains' sources, in their order.
        after: onnx.ModelProto that maps the chains' targets, and the network's input if it needs it, to its output.
    """

    chains: list[Chain]
    before: Any
    after: Any


def cut(model: Any) -> Cut:
    """Cuts the chains of convolutions out of a network.

    Args:
        model: onnx.ModelProto of a network of one input and one output.

    Raises:
        NetworkError: chains hold less than `SHARE` of the weights of the network's convolutions, as in a ResNet, or
            fewer convolutions than there are products with matrices, as in a transformer; or they are not float32.
    """
    graph = model.graph
    weights = {value.name: value for value in graph.initializer}
    if any(attribute.g.node or attribute.graphs for node in graph.node for attribute in node.attribute):
        raise NetworkError("ncnn takes no networks with branches")
    sequences = _sequences(graph, weights)
    total = sum(_size(weights, node) for node in graph.node if node.op_type == "Conv")
    held = sum(_size(weights, node) for sequence in sequences for node in sequence)
    convolutions = sum(node.op_type == "Conv" for sequence in sequences for node in sequence)
    products = sum(node.op_type in ("MatMul", "Gemm") and node.input[1] in weights for node in graph.node)
    if not sequences or held < SHARE * total or convolutions < products:
        raise NetworkError("ncnn takes only networks whose convolutions follow one another, as in VGG and AlexNet")
    chains = [Chain(nodes[0].input[0], nodes[-1].output[0], *_for_ncnn(nodes, weights)) for nodes in sequences]
    inside = {id(node) for nodes in sequences for node in nodes}
    outside = [node for node in graph.node if id(node) not in inside]
    given, wanted = _names(graph.input), _names(graph.output)
    sources, targets = [chain.source for chain in chains], [chain.target for chain in chains]
    return Cut(chains, _part(model, outside, given, sources), _part(model, outside, [*given, *targets], wanted))


def _names(values: Iterable[Any]) -> list[str]:
    return [value.name for value in values]


def _size(weights: dict[str, Any], convolution: Any) -> int:
    """The number of a convolution's weights; 0 of another node or if they are computed."""
    kernel = weights.get(convolution.input[1]) if convolution.op_type == "Conv" else None
    return int(np.prod(kernel.dims)) if kernel is not None else 0


def _sequences(graph: Any, weights: dict[str, Any]) -> list[list[Any]]:
    """The nodes of each chain, leaving out chains that read what another has given."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in set(node.input):
            readers.setdefault(name, []).append(node)
    outputs = set(_names(graph.output))
    sequences, taken, given = list[list[Any]](), set[int](), set[str]()  # given: what chains give, and all after it
    for node in graph.node:
        later = id(node) in taken or not given.isdisjoint(node.input)
        if not later and node.op_type == "Conv" and _can(node, weights):
            sequence = [node]
            while (name := sequence[-1].output[0]) not in outputs and len(readers.get(name, [])) == 1:
                if not _can(readers[name][0], weights) or readers[name][0].input[0] != name:
                    break
                sequence.append(readers[name][0])
            sequences.append(sequence)
            taken.update(map(id, sequence))
            later = True
        if later:
            given.update(node.output)
    return sequences


def _attributes(node: Any) -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


def _can(node: Any, weights: dict[str, Any]) -> bool:
    """Whether a node may be part of a chain: its form is one that `_for_ncnn` writes."""
    from onnx import TensorProto

    form = _attributes(node)
    if node.op_type == "Relu":
        return True
    if node.op_type == "MaxPool":
        plain = form.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not any(form.get("pads", ()))
        plain = plain and not form.get("ceil_mode", 0) and set(form.get("dilations", (1,))) == {1}
        return plain and len(form["kernel_shape"]) == 2 and len(node.output) == 1
    if node.op_type != "Conv" or form.get("group", 1) != 1:
        return False
    if {*form.get("strides", ()), *form.get("dilations", ())} - {1}:
        return False
    names = [name for name in node.input[1:] if name]
    numbers = all(name in weights and weights[name].data_type == TensorProto.FLOAT for name in names)
    padded = form.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"NOTSET")
    return numbers and padded and tuple(weights[names[0]].dims[2:]) == (3, 3)  # others are slower there


def _for_ncnn(nodes: Sequence[Any], weights: dict[str, Any]) -> tuple[str, bytes]:
    """The layers of a chain as ncnn's .param and .bin; ids of parameters: ncnn's docs, operators.md."""
    from onnx.numpy_helper import to_array

    layers, content = [("Input", "")], list[bytes]()
    for node in nodes:
        form = _attributes(node)
        if node.op_type == "Relu":
            layers.append(("ReLU", ""))
            continue
        if node.op_type == "MaxPool":
            (rows, columns), (high, wide) = form["kernel_shape"], form.get("strides", (1, 1))
            layers.append(("Pooling", f"0=0 1={columns} 11={rows} 2={wide} 12={high} 5=1"))
            continue
        kernel = to_array(weights[node.input[1]])
        bias = to_array(weights[node.input[2]]) if len(node.input) > 2 and node.input[2] else np.zeros(len(kernel))
        top, left, bottom, last = form.get("pads", (0, 0, 0, 0))
        pads = f"4={left} 15={last} 14={top} 16={bottom}"
        if form.get("auto_pad", b"NOTSET") == b"SAME_UPPER":
            pads = "4=-233"
        layers.append(("Convolution", f"0={len(kernel)} 1=3 {pads} 5=1 6={kernel.size}"))
        content += [bytes(4), kernel.astype("<f4").tobytes(), bias.astype("<f4").tobytes()]  # 4 zeros: float32 follows
    lines = ["7767517", f"{len(layers)} {len(layers)}"]
    for number, (kind, settings) in enumerate(layers):
        blob = "out" if number == len(layers) - 1 else f"blob{number}" if number else "in"
        source = f"1 1 {'blob' + str(number - 1) if number > 1 else 'in'}" if number else "0 1"
        lines.append(f"{kind} layer{number} {source} {blob} {settings}".rstrip())
    return "\n".join(lines) + "\n", b"".join(content)


def _part(model: Any, nodes: Sequence[Any], given: Sequence[str], wanted: Sequence[str]) -> Any:
    """The part of a network that computes the wanted tensors from the given ones."""
    import onnx

    needed, kept = set(wanted), list[Any]()
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed.update(node.input)
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}

    def tensor(name: str) -> Any:
        return known.get(name) or onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (None,) * 4)

    graph = onnx.helper.make_graph(
        kept[::-1],
        model.graph.name,
        [tensor(name) for name in given if name in needed],
        [tensor(name) for name in wanted],
        [value for value in model.graph.initializer if value.name in needed],
    )
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
