"""The table of steps: every command of `keras-retrieval`, the room its module lies in and what it does.

A step is a module named as its command, with one public function of the same name. The command line, the short Python
paths (`keras_retrieval.pipelines.extract`) and the documentation are made from this table.
"""

from typing import NamedTuple


class Step(NamedTuple):
    """A step of the way from photos to a service.

    Attributes:
        room: the package that holds its module, such as "pipelines.descriptors".
        group: the part of the way that it belongs to.
        summary: what goes in and what comes out, for the list of steps.
    """

    room: str
    group: str
    summary: str


STEPS: dict[str, Step] = {
    "sample-photos": Step("pipelines.samples", "Photos", "draw a collection of photos of invented buildings"),
    "edge-maps": Step("pipelines.photos", "Photos", "photos or sketches -> edge maps, to inspect or to send"),
    "build": Step("pipelines.networks", "Networks", "name -> model.keras, with pretrained or given weights"),
    "convert": Step("pipelines.networks", "Networks", "published network (.pth, .mat) -> model.keras"),
    "extract": Step("pipelines.descriptors", "Descriptors", "photos -> descriptors"),
    "whiten": Step("pipelines.descriptors", "Descriptors", "network + matching photos -> network with whitening"),
    "reconstruct": Step("pipelines.sfm", "Structure from motion", "unordered photos -> 3D models of what they show"),
    "pairs": Step("pipelines.sfm", "Structure from motion", "photos -> pairs to match, for COLMAP and hloc"),
    "clean": Step(
        "pipelines.cleaning", "Training", "one folder per landmark -> the photos that show it, with its box in each"
    ),
    "tuples": Step("pipelines.training_tuples", "Training", "models, folders, lists or positions -> training tuples"),
    "train": Step("pipelines.training", "Training", "tuples -> fine-tuned network with its whitening, curves, a page"),
    "classify": Step("pipelines.training", "Training", "one folder per landmark -> network trained to classify them"),
    "train-proposals": Step("pipelines.training", "Training", "boxes of objects -> network with region proposals"),
    "evaluate": Step("pipelines.evaluation", "Evaluation", "network + dataset -> the scores of its protocol, a page"),
    "index": Step("export.indexes", "Index and search", "descriptors -> index, tuned to a recall"),
    "update": Step("export.indexes", "Index and search", "index + descriptors to add, names to delete -> new state"),
    "search": Step("export.indexes", "Index and search", "index + query photos -> names, scores, a page of pictures"),
    "export-saved-model": Step(
        "export.savedmodel", "Serving", "network -> a version for TensorFlow Serving, checked against Keras"
    ),
    "serve": Step("export.server", "Serving", "exported versions -> a server with TensorFlow Serving's protocol"),
    "describe": Step("export.client", "Serving", "photos -> descriptors, computed by a served network"),
    "query": Step("export.client", "Serving", "photos -> names, scores, from a served network and its index"),
    "export-onnx": Step("export.onnx_file", "Serving", "network -> model.onnx for the edge, checked against Keras"),
}


def function_name(step: str) -> str:
    """The name of a step's module and of its public function."""
    return step.replace("-", "_")


def module_name(step: str) -> str:
    """The full name of a step's module as it is installed.

    Raises:
        KeyError: there is no such step.
    """
    return f"keras_retrieval.{STEPS[step].room}.{function_name(step)}"


def steps_of(wing: str) -> dict[str, str]:
    """Maps the function of each step of a wing ("pipelines" or "export") to its module, relative to the wing."""
    return {
        function_name(step): f".{room.partition('.')[2]}.{function_name(step)}"
        for step, (room, _, _) in STEPS.items()
        if room.startswith(f"{wing}.")
    }
