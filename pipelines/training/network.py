"""Loads, prepares, compiles and saves the network of a training run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError

from ..descriptors.learn_whitening import require_narrow
from ..networks.files import load_model, require_edges, save_model
from .train_options import TrainOptions


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
    if options.precision == "bfloat16":
        set_trunk_precision(network, "mixed_bfloat16")
    return network


def set_p_speed(network: Any, p_speed: float | None) -> None:
    """Sets the relative learning rate of GeM's exponent p, which changes the scale of the weight that holds p.

    Args:
        network: the network, which is changed in place.
        p_speed: the relative learning rate; None for 10, and 100 for one p per channel.
    """
    from keras_retrieval.layers.gem import gem_layers

    for layer in gem_layers(network):
        layer.set_p_speed(p_speed or (100.0 if layer.per_channel else 10.0))


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


def compiled(network: Any, options: TrainOptions, steps: int) -> Any:
    """Wraps a network in a model that trains on tuples, compiled with the loss and the published optimizer.

    Args:
        network: a network from `network_to_train`.
        options: the options of the run.
        steps: number of steps in an epoch.

    Returns:
        A compiled TupleModel. It is a ChunkedTupleModel if photos keep their exact sizes, if they pass through the
        network in chunks, or if negatives are refreshed within an epoch.
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
    """Makes the loss that the options select, with its margin.

    Args:
        options: the options of the run.
        network: name of the network, which determines the published margin of the contrastive loss.

    Returns:
        A keras.losses.Loss on the descriptors of tuples.
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
