"""Functions that load, set up, compile and save the network of a training run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError

from ..descriptors.learn_whitening import require_narrow
from ..networks.files import load_model, require_edges, save_model
from .train_options import TrainOptions


def load_trainable(model: str) -> Any:
    """Loads or builds a network that can be trained.

    Args:
        model: path of a .keras file, or the name of a network such as "vgg16_gem".

    Raises:
        ArgumentError: `model` is an .onnx file or an unknown name.
        NetworkFileError: the file cannot be loaded.
    """
    if Path(model).suffix == ".onnx":
        raise ArgumentError(f"{model}: an .onnx network cannot be trained: give the .keras file that it was made from")
    return load_model(model)


def network_to_train(options: TrainOptions) -> Any:
    """Loads or builds the network and sets the relative learning rate of GeM's p, the frozen layers and the precision.

    Args:
        options: the options of the run.

    Raises:
        ArgumentError: the network does not fit the options `whiten`, `dim`, `freeze` or `edges`.
    """
    from keras_retrieval.layers.gem import gem_layers
    from keras_retrieval.networks.precision import set_trunk_precision

    network = load_trainable(options.model)
    require_edges(network, options.edges)
    if options.whiten != "none" and any(layer.name == "whitening" for layer in network.layers):
        raise ArgumentError(
            f"{options.model} ends with a whitening already, which is trained with the other layers: give --whiten none"
        )
    require_narrow(options.whiten, network.output_shape[-1])
    if options.dim is not None and options.dim > network.output_shape[-1]:
        raise ArgumentError(
            f"--dim must be at most {network.output_shape[-1]}, the dimensions of the network, got {options.dim}"
        )
    for layer in gem_layers(network):
        layer.set_p_speed(options.p_speed or (100.0 if layer.per_channel else 10.0))
    layers = layers_of_trunk(network)
    if options.freeze > len(layers):
        raise too_many_frozen(options.freeze, network, layers)
    for layer in layers[: options.freeze]:
        layer.trainable = False
    if options.precision == "bfloat16":
        set_trunk_precision(network, "mixed_bfloat16")
    return network


def save_trained(network: Any, path: Path) -> None:
    """Saves a network without its training settings: relative learning rate of GeM's p, frozen layers, precision.

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
    """Returns the error for a value of --freeze above the number of layers with weights."""
    return ArgumentError(
        f"--freeze must be at most {len(layers)}, the layers with weights in the trunk of {network.name}, got {count}"
    )


def layers_of_trunk(network: Any) -> list[Any]:
    """Returns the layers with weights in the network's trunk, from the first to the last."""
    import keras

    trunk = next((layer for layer in network.layers if isinstance(layer, keras.Model)), None)
    return [layer for layer in trunk.layers if layer.weights] if trunk is not None else []


def compiled(network: Any, options: TrainOptions, steps: int) -> Any:
    """Wraps the network in a model of tuples and compiles it with the loss and the published optimizer.

    Args:
        network: a network from `network_to_train`.
        options: the options of the run.
        steps: number of steps in an epoch.

    Returns:
        A TupleModel, or a ChunkedTupleModel for exact sizes, chunks and refreshed negatives.
    """
    from keras_retrieval.networks.optimizer import published_adam
    from keras_retrieval.networks.tuple_model import TupleModel

    from .chunked_model import ChunkedTupleModel

    plain = options.padded and options.chunk is None and not options.refresh
    if plain:
        model = TupleModel(network, options.weight_decay)
    else:
        model = ChunkedTupleModel(network, options.weight_decay, options.chunk, keep_descriptors=options.refresh > 0)
    optimizer = published_adam(steps, options.lr, options.decay)
    model.compile(optimizer, loss_of(options, network.name), jit_compile=options.jit)
    optimizer.build(model.trainable_variables)
    return model


def loss_of(options: TrainOptions, network: str) -> Any:
    """Returns the loss that the options select, with its margin.

    Args:
        options: the options of the run.
        network: name of the network, which determines the published margin.
    """
    from keras_retrieval import losses

    losses_by_name = {
        "contrastive": losses.ContrastiveLoss,
        "triplet": losses.TripletLoss,
        "ranking": losses.WeaklySupervisedRankingLoss,
        "batch-hard": losses.BatchHardTripletLoss,
        "semi-hard": losses.SemiHardTripletLoss,
        "average-precision": losses.AveragePrecisionLoss,
    }
    margin = options.margin_for(network)
    loss = losses_by_name[options.loss]
    return loss() if margin is None else loss(margin=margin)
