"""Loads, prepares, compiles and saves the network of a training run."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError

from ..descriptors.learn_whitening import require_narrow
from ..networks.files import load_model, require_edges, save_model
from ..runtimes.options import JAX, RUNTIME, TENSORFLOW
from .devices import ONE_DEVICE, Devices
from .train_options import ON_CLASSES, TrainOptions, epochs_of


def load_trainable(model: str) -> Any:
    """Loads a network from a .keras file, or builds it by name with ImageNet weights.

    Args:
        model: path of a .keras file, or the name of a network such as "vgg16_gem".

    Returns:
        A keras.Model.

    Raises:
        ArgumentError: `model` is an .onnx file, which cannot be trained, or an unknown name.
        NetworkError: the file does not exist.
        NetworkFileError: the file cannot be loaded.
    """
    if Path(model).suffix == ".onnx":
        raise ArgumentError(f"{model}: an .onnx network cannot be trained: give the .keras file that it was made from")
    return load_model(model)


def network_to_train(options: TrainOptions) -> Any:
    """Loads or builds the network of a run and prepares it for training.

    The relative learning rate of GeM's exponent p is set, layers are frozen, and the trunk gets its precision.

    Args:
        options: the options of the run.

    Returns:
        A keras.Model.

    Raises:
        ArgumentError: `options.whiten` is not "none" although the network already ends with a whitening; `options.dim`
            exceeds its number of dimensions; `options.freeze` exceeds the number of layers in its trunk; or
            `options.model` is an .onnx file, which cannot be trained, or an unknown name.
        NetworkError: the network takes edge maps and `options.edges` is "", or its file does not exist.
        WhiteningError: the descriptors have too many dimensions for `options.whiten`.
    """
    from keras_retrieval.networks.precision import set_trunk_precision

    network = load_trainable(options.model)
    require_edges(network, options.edges)
    _check_padding(network, options)
    if options.whiten != "none" and any(layer.name == "whitening" for layer in network.layers):
        raise ArgumentError(
            f"{options.model} ends with a whitening already, which is trained with the other layers: give --whiten none"
        )
    require_narrow(options.whiten, network.output_shape[-1])
    if options.dim is not None and options.dim > network.output_shape[-1]:
        raise ArgumentError(
            f"--dim must be at most {network.output_shape[-1]}, the dimensions of the network, got {options.dim}"
        )
    set_p_speed(network, options.p_speed)
    layers = layers_of_trunk(network)
    if options.freeze > len(layers):
        raise too_many_frozen(options.freeze, network, layers)
    for layer in layers[: options.freeze]:
        layer.trainable = False
    if options.train_last is not None:
        freeze_but_last(network, options.train_last)
    if options.checkpoint_blocks and not recompute_blocks(network):
        raise ArgumentError(
            f"--checkpoint-blocks needs a vision transformer, and {network.name} has none: --chunk bounds the memory "
            "of any network"
        )
    if options.precision == "bfloat16":
        set_trunk_precision(network, "mixed_bfloat16")
    return network


def _check_padding(network: Any, options: TrainOptions) -> None:
    """Checks that photos at exact sizes can be padded, as JAX needs them."""
    from keras_retrieval.networks.padded import misfit

    if not options.padded and on_jax() and (reason := misfit(network)):
        raise ArgumentError(
            f"--exact with {network.name} needs Keras on TensorFlow, because on JAX photos are padded and masked "
            f"({reason}): set KERAS_BACKEND=tensorflow, or give --padded"
        )


def set_p_speed(network: Any, p_speed: float | None) -> None:
    """Sets the relative learning rate of GeM's exponent p, which changes the scale of the weight that holds p.

    Args:
        network: the network, which is changed in place.
        p_speed: the relative learning rate; None for 10, and 100 for one p per channel.
    """
    from keras_retrieval.layers.gem import gem_layers

    for layer in gem_layers(network):
        layer.set_p_speed(p_speed or (100.0 if layer.per_channel else 10.0))


_STAGE = re.compile(r"stage_(\d+)|^(?:conv(?![123]d)|block|layer)_?(\d+)|^expanded_conv_(\d+)")


def freeze_but_last(network: Any, count: int) -> None:
    """Freezes the trunk of a network but for its last blocks or stages, and the layers after them.

    The blocks of a vision transformer and the stages of a CNN are recognised by the names of their layers.

    Args:
        network: the network, whose layers are changed in place.
        count: number of blocks or stages to train; 0 freezes the whole trunk.

    Raises:
        ArgumentError: the trunk has fewer blocks or stages.
    """
    layers = layers_of_trunk(network)
    found = [_STAGE.search(layer.name) for layer in layers]
    numbers = [int(next(filter(None, match.groups()))) if match else None for match in found]
    stages = list(dict.fromkeys(number for number in numbers if number is not None))
    if count > len(stages):
        raise ArgumentError(
            f"--train-last must be at most {len(stages)}, the blocks or stages that the trunk of {network.name} has, "
            f"got {count}"
        )
    first = numbers.index(stages[-count]) if count else len(layers)
    for layer in layers[:first]:
        layer.trainable = False


def recompute_blocks(network: Any) -> int:
    """Sets the blocks of a network's vision transformer to compute their activations again in the backward pass.

    Returns:
        The number of blocks, 0 if there is no vision transformer.
    """
    from keras_retrieval.layers import TransformerBlock

    blocks = [layer for layer in layers_of_trunk(network) if isinstance(layer, TransformerBlock)]
    for block in blocks:
        block.recompute = True
    return len(blocks)


def save_trained(network: Any, path: Path) -> None:
    """Saves a trained network after it has undone the changes that `network_to_train` made for training.

    The relative learning rate of GeM's exponent p becomes 1, no layer is frozen, and the precision is float32.

    Args:
        network: the network, which is changed in place.
        path: the .keras file; an existing one is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    from keras_retrieval.layers.gem import gem_layers
    from keras_retrieval.networks.precision import set_trunk_precision

    for layer in gem_layers(network):
        layer.set_p_speed(1.0)
    for layer in layers_of_trunk(network):
        layer.trainable = True
    set_trunk_precision(network, "float32")
    save_model(network, path)


def too_many_frozen(count: int, network: Any, layers: Sequence[Any]) -> ArgumentError:
    """Returns the error to raise if more layers are to be frozen than the trunk has.

    Args:
        count: number of layers to freeze.
        network: the network.
        layers: the layers with weights in the trunk of the network.
    """
    return ArgumentError(
        f"--freeze must be at most {len(layers)}, the layers with weights in the trunk of {network.name}, got {count}"
    )


def layers_of_trunk(network: Any) -> list[Any]:
    """Returns the layers with weights in a network's trunk, from the first to the last; empty if it has no trunk."""
    import keras

    trunk = next((layer for layer in network.layers if isinstance(layer, keras.Model)), None)
    return [layer for layer in trunk.layers if layer.weights] if trunk is not None else []


def compiled(
    network: Any,
    options: TrainOptions,
    steps: int,
    classes: int = 0,
    devices: Devices = ONE_DEVICE,
    kept: Any = None,
) -> Any:
    """Wraps a network in a model that trains on tuples, compiled with the loss and the published optimizer.

    Args:
        network: a network from `network_to_train`.
        options: the options of the run.
        steps: number of steps in an epoch.
        classes: number of classes, for the losses on classes.
        devices: the devices on which the network is trained; it was made in their scope.
        kept: the penalty of `--keep`; None for none.

    Returns:
        A compiled TupleModel. It is a ChunkedTupleModel if photos keep their exact sizes, if they pass through the
        network in chunks, or if negatives are refreshed within an epoch. With several devices, it is a
        `ReplicatedModel` of a ChunkedTupleModel, and on JAX a `JaxModel` of a TupleModel.
    """
    if on_jax():
        return _on_jax(network, options, steps, classes, devices, kept)
    if devices.strategy is None:
        return _compiled(network, options, steps, classes, kept=kept)
    from .replicas import ReplicatedModel

    with devices.scope():
        return ReplicatedModel(_compiled(network, options, steps, classes, replicated=True), devices)


def _on_jax(network: Any, options: TrainOptions, steps: int, classes: int, devices: Devices, kept: Any) -> Any:
    from keras_retrieval.networks.tuple_model import TupleModel

    from .jax_model import JaxModel

    model = TupleModel(network, _penalty(options), exact=not options.padded, kept=kept)
    _compile(model, network, options, steps, classes)
    return JaxModel(model, devices, options.chunk)


def _compiled(
    network: Any,
    options: TrainOptions,
    steps: int,
    classes: int,
    replicated: bool = False,
    kept: Any = None,
) -> Any:
    from keras_retrieval.networks.tuple_model import TupleModel

    from .chunked_model import ChunkedTupleModel

    plain = options.padded and options.chunk is None and not options.refresh and not replicated
    penalty = _penalty(options)
    if plain:
        model = TupleModel(network, penalty, kept=kept)
    else:
        keep = options.refresh > 0 and not replicated
        model = ChunkedTupleModel(network, penalty, options.chunk, keep_descriptors=keep, kept=kept)
    _compile(model, network, options, steps, classes)
    return model


def _compile(model: Any, network: Any, options: TrainOptions, steps: int, classes: int) -> None:
    loss = loss_of(options, network, classes)
    optimizer = optimizer_of(options, network, loss, steps)
    model.compile(optimizer, loss, jit_compile=options.jit)
    optimizer.build(model.trainable_variables)


def _penalty(options: TrainOptions) -> float:
    return 0.0 if options.optimizer == "adamw" else options.weight_decay


def check_backend() -> None:
    """Checks that Keras' backend can train.

    Raises:
        ArgumentError: it is neither TensorFlow nor JAX.
    """
    import keras

    if (backend := keras.backend.backend()) not in (TENSORFLOW, JAX):
        raise ArgumentError(
            f"training needs Keras on TensorFlow or JAX, and KERAS_BACKEND is {backend}: set "
            "KERAS_BACKEND=tensorflow; the trained network runs on every backend"
        )


def on_jax() -> bool:
    """Whether Keras runs on JAX."""
    import keras

    return keras.backend.backend() == JAX


def runtime_of_keras() -> str:
    """Returns the value of --runtime with which descriptors are computed as in training, by Keras' backend."""
    return RUNTIME if on_jax() else TENSORFLOW


def optimizer_of(options: TrainOptions, network: Any, loss: Any, steps: int) -> Any:
    """Makes the optimizer that the options select, with its schedule of the learning rate.

    Args:
        options: the options of the run.
        network: the network.
        loss: the loss, whose weights do not decay.
        steps: number of steps in an epoch.

    Returns:
        A keras.optimizers.Optimizer, which is not built yet.
    """
    import keras

    from keras_retrieval.networks import optimizer as made

    schedules = {
        "exponential": lambda: made.decayed_rate(steps, options.lr, options.decay),
        "linear": lambda: made.linear_rate(steps * options.epochs, options.lr, options.lr_end),
        "steps": lambda: made.stepped_rate(steps, options.lr, epochs_of(options.lr_epochs), options.lr_factor),
        "constant": lambda: options.lr,
    }
    rate = schedules[options.schedule]()
    if options.warm_up:
        rate = made.WarmUp(rate, max(1, round(options.warm_up * steps)))
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9)
    if options.optimizer == "adamw":
        undecayed = [weight for layer in network._flatten_layers() for weight in getattr(layer, "undecayed", ())]
        of_loss = loss.layer.weights if hasattr(loss, "layer") else []
        return made.adamw(rate, options.weight_decay, [*undecayed, *of_loss])
    return keras.optimizers.Adam(rate, epsilon=1e-8)


def loss_of(options: TrainOptions, network: Any, classes: int = 0) -> Any:
    """Makes the loss that the options select, with its margin.

    Args:
        options: the options of the run.
        network: the network, whose name determines the published margin of the contrastive loss.
        classes: number of classes, for the losses on classes.

    Returns:
        A keras.losses.Loss on the descriptors of tuples.
    """
    from keras_retrieval import losses

    margin, dimensions = options.margin_for(network.name), network.output_shape[-1]
    if options.loss in ON_CLASSES:
        on_classes = losses.CosFaceLoss if options.loss == "cosface" else losses.ArcFaceLoss
        given: dict[str, Any] = {"margin": options.margin, "scale": options.scale}
        return on_classes(
            classes,
            dimensions,
            sub_centres=options.sub_centres,
            speed=1000.0 if options.centre_lr is None else options.centre_lr / options.lr,
            **{name: value for name, value in given.items() if value is not None},
        )
    if options.loss == "multi-similarity":
        loss = losses.MultiSimilarityLoss() if margin is None else losses.MultiSimilarityLoss(epsilon=margin)
        return losses.CrossBatchMemory(options.memory, dimensions, loss) if options.memory else loss
    if options.loss == "info-nce":
        return losses.InfoNCELoss() if options.temperature is None else losses.InfoNCELoss(options.temperature)
    losses_by_name = {
        "contrastive": losses.ContrastiveLoss,
        "triplet": losses.TripletLoss,
        "ranking": losses.WeaklySupervisedRankingLoss,
        "batch-hard": losses.BatchHardTripletLoss,
        "semi-hard": losses.SemiHardTripletLoss,
        "average-precision": losses.AveragePrecisionLoss,
    }
    make = losses_by_name[options.loss]
    return make() if margin is None else make(margin=margin)
