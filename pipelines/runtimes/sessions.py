"""Runs .onnx files with ONNX Runtime, OpenVINO and ncnn, on all cores that this process may use."""

import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import MissingExtraError, missing_extra

from ..files.machine import cores
from ..networks.errors import NetworkError
from ..networks.onnx_network import open_session
from .bfloat16_branches import branches_in_bfloat16
from .conversion import INPUT
from .convolution_chains import Chain, cut
from .options import NCNN, ONNXRUNTIME

Describe = Callable[[np.ndarray], np.ndarray]
"""A function that maps a batch of photos, (B, H, W, 3), to their descriptors, (B, D) float32."""

Compute = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
"""A function that maps the inputs of a network by name to all its outputs, all of them float32."""

SHAPES_KEPT = 64
"""Entries of OpenVINO's cache of kernels made for shapes, for each stream: 5,000 by default, which grows for hours."""

PART_PIXELS = 2**17
"""Pixels that OpenVINO describes at a time: one photo of 362 px, six of 160 px. The feature maps of more photos do not
fit into the processor's caches, and VGG16 takes 7 to 14 % longer for each photo of a batch of 8 or 16 (362 px)."""


def open_network(runtime: str, path: Path, bfloat16: bool = False) -> Describe:
    """Loads an .onnx file that takes photos of any size.

    Args:
        runtime: "onnxruntime", "openvino" or "ncnn".
        path: the .onnx file, with the input `images` and the output `descriptors`.
        bfloat16: whether OpenVINO computes in bfloat16; of transformers, the branches of their blocks.

    Returns:
        A function that may be called from several threads.

    Raises:
        NetworkError: the file cannot be loaded, or the runtime does not take such a network.
        MissingExtraError: the runtime is not installed.
    """
    if runtime == NCNN:
        return _ncnn(path)
    return _onnxruntime(path) if runtime == ONNXRUNTIME else _openvino(path, bfloat16)


def parts(images: np.ndarray) -> list[np.ndarray]:
    """Cuts a batch of photos, (B, H, W, 3), into batches of `PART_PIXELS` pixels, or of one larger photo."""
    count = max(1, PART_PIXELS // max(1, images.shape[1] * images.shape[2]))
    return [images[start : start + count] for start in range(0, max(1, len(images)), count)]


def _onnxruntime(path: Path) -> Describe:
    compute = _computed_by_onnxruntime(path)
    return lambda images: compute({INPUT: images.astype(np.float32)})[0]


def _openvino(path: Path, bfloat16: bool) -> Describe:
    compute = _computed_by_openvino(path, bfloat16)
    return lambda images: np.concatenate([compute({INPUT: part.astype(np.float32)})[0] for part in parts(images)])


def _computed_by_onnxruntime(path: Path) -> Compute:
    session = open_session(path)
    return lambda inputs: session.run(None, inputs)


def _computed_by_openvino(path: Path, bfloat16: bool = False) -> Compute:
    try:
        import openvino
    except ImportError as error:
        raise missing_extra("OpenVINO", "openvino", error) from error
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": cores(),
        # Threads that decode photos need the same cores.
        "ENABLE_CPU_PINNING": False,
        "CPU_RUNTIME_CACHE_CAPACITY": SHAPES_KEPT,
    }

    def compile_model() -> Any:
        core = openvino.Core()
        model = core.read_model(path)
        # Without a hint the processor's bfloat16 units are used for float32 networks, too.
        whole = bfloat16 and not branches_in_bfloat16(model)
        return core.compile_model(model, "CPU", settings | {"INFERENCE_PRECISION_HINT": "bf16" if whole else "f32"})

    try:
        # OpenVINO gives the thread that compiles a stack for signals, and releases its memory with the last network, in
        # any thread. A main thread that had it would crash at the next Ctrl-C or SIGTERM.
        with ThreadPoolExecutor(1, thread_name_prefix="OpenVINO") as compiler:
            compiled = compiler.submit(compile_model).result()
    except Exception as error:  # OpenVINO raises RuntimeError and others
        raise NetworkError(f"{path} could not be loaded by OpenVINO: {_last_line(error)}") from error
    request, lock = compiled.create_infer_request(), threading.Lock()

    def compute(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with lock:
            request.infer(inputs)
            return [np.array(request.get_tensor(output).data, np.float32) for output in compiled.outputs]

    return compute


def _ncnn(path: Path) -> Describe:
    try:
        import ncnn  # noqa: F401
        import onnx
    except ImportError as error:
        raise missing_extra("ncnn", "ncnn", error) from error
    network = cut(onnx.load(path))
    nets = dict[bytes, Describe]()  # by weights, which the chains of several scales have in common
    with tempfile.TemporaryDirectory(prefix="keras-retrieval-") as temporary:
        folder = Path(temporary)
        for chain in network.chains:
            if chain.weights not in nets:
                nets[chain.weights] = _ncnn_chain(chain, folder)
        onnx.save(network.before, folder / "before.onnx")
        onnx.save(network.after, folder / "after.onnx")
        before, after = (_fastest(folder / f"{part}.onnx") for part in ("before", "after"))
    takes_photos = any(value.name == INPUT for value in network.after.graph.input)
    # Only what is used stays in memory, not the weights as ncnn has read them.
    chains = [(chain.target, nets[chain.weights]) for chain in network.chains]

    def describe_part(photos: np.ndarray) -> np.ndarray:
        given = {INPUT: photos} if takes_photos else {}
        for (target, net), maps in zip(chains, before({INPUT: photos}), strict=True):
            given[target] = np.stack([net(one) for one in maps])
        (rows,) = after(given)
        return rows

    return lambda images: np.concatenate([describe_part(part) for part in parts(images.astype(np.float32))])


def _fastest(path: Path) -> Compute:
    try:
        return _computed_by_openvino(path)
    except MissingExtraError:
        return _computed_by_onnxruntime(path)


def _ncnn_chain(chain: Chain, folder: Path) -> Describe:
    """The function of a chain, (C, H, W) to (D, H', W'), which may be called from several threads."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = cores()
    net.opt.openmp_blocktime = 0  # otherwise waiting threads spin on the cores that decode photos
    for reduced in ("fp16_storage", "fp16_packed", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{reduced}", False)
    (folder / "chain.param").write_text(chain.param, encoding="utf-8")
    (folder / "chain.bin").write_bytes(chain.weights)
    if net.load_param(str(folder / "chain.param")) or net.load_model(str(folder / "chain.bin")):
        raise NetworkError(f"ncnn could not load the chain of convolutions that ends at {chain.target}")

    def compute(one: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in", ncnn.Mat(np.ascontiguousarray(one)))
        failed, maps = extractor.extract("out")
        if failed:
            height, width = one.shape[1:]
            raise NetworkError(f"ncnn could not compute {chain.target} of {height} x {width} pixels (error {failed})")
        return np.array(maps)

    return compute


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
