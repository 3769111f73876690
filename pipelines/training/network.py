"""The network of a training run: made ready to learn, and put away as others take it."""

from pathlib import Path
from typing import Any

from ..descriptors.learn_whitening import require_narrow
from ..networks.files import load_model, require_edges, save_model
from .train_options import TrainOptions


def load_trainable(model: str) -> Any:
    """Loads or builds a network that can learn.

    Raises:
        ValueError: it cannot be loaded, or is an .onnx file.
    """
    if Path(model).suffix == ".onnx":
        raise ValueError(f"{model}: an .onnx network does not learn: give the .keras file that it was made of")
    return load_model(model)


def network_to_train(options: TrainOptions) -> Any:
    """Loads or builds the network, with p at its own speed, the first layers frozen and the precision asked for.

    Raises:
        ValueError: it cannot be loaded, has fewer layers than are to be frozen, or a whitening besides `--whiten`.
    """
    from keras_retrieval.layers.gem import gem_layers
    from keras_retrieval.networks.precision import set_trunk_precision

    network = load_trainable(options.model)
    require_edges(network, options.edges)
    if options.whiten != "none" and any(layer.name == "whitening" for layer in network.layers):
        raise ValueError(f"{options.model} ends with a whitening, which learns with the rest: give --whiten none")
    require_narrow(options.whiten, network.output_shape[-1])
    if options.dim is not None and options.dim > network.output_shape[-1]:
        raise ValueError(f"--dim {options.dim}: the network has {network.output_shape[-1]} dimensions to keep")
    for layer in gem_layers(network):
        layer.set_p_speed(options.p_speed or (100.0 if layer.per_channel else 10.0))
    layers = layers_of_trunk(network)
    if options.freeze > len(layers):
        raise ValueError(f"--freeze {options.freeze}: the trunk of {network.name} has {len(layers)} layers that learn")
    for layer in layers[: options.freeze]:
        layer.trainable = False
    if options.precision == "bfloat16":
        set_trunk_precision(network, "mixed_bfloat16")
    return network


def save_trained(network: Any, path: Path) -> None:
    """Saves a network as others take it, without what was set for training: speeds, frozen layers, precision.

    Raises:
        OSError: it could not be written.
    """
    from keras_retrieval.layers.gem import gem_layers
    from keras_retrieval.networks.precision import set_trunk_precision

    for layer in gem_layers(network):
        layer.set_p_speed(1.0)
    for layer in layers_of_trunk(network):
        layer.trainable = True
    set_trunk_precision(network, "float32")
    save_model(network, path)


def layers_of_trunk(network: Any) -> list[Any]:
    """The layers with weights in the network's trunk, from the photo on."""
    import keras

    trunk = next((layer for layer in network.layers if isinstance(layer, keras.Model)), None)
    return [layer for layer in trunk.layers if layer.weights] if trunk is not None else []


def compiled(network: Any, options: TrainOptions, steps: int) -> Any:
    """The network as a model of tuples, compiled with the loss and the published optimizer.

    Args:
        network: from `network_to_train`.
        options: of the run.
        steps: of an epoch.

    Raises:
        ValueError: a margin for a loss that has none.
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
    """The loss asked for, with its margin.

    Raises:
        ValueError: a margin for a loss that has none.
    """
    from keras_retrieval import losses

    known = {
        "contrastive": losses.ContrastiveLoss,
        "triplet": losses.TripletLoss,
        "ranking": losses.WeaklySupervisedRankingLoss,
        "batch-hard": losses.BatchHardTripletLoss,
        "semi-hard": losses.SemiHardTripletLoss,
        "average-precision": losses.AveragePrecisionLoss,
    }
    margin = options.margin_for(network)
    return known[options.loss]() if margin is None else known[options.loss](margin=margin)
