"""The table of steps, the commands of `keras-retrieval`: for each step its package, its group and a summary.

A step is a module with the name of its command and one public function of the same name. The command line, the short
Python paths (`keras_retrieval.pipelines.extract`) and the documentation are generated from this table.
"""

from typing import NamedTuple


class Step(NamedTuple):
    """An entry of the table of steps.

    Attributes:
        room: the package that contains the module of the step, such as "pipelines.descriptors".
        group: the heading under which the step is listed.
        summary: one line about its input and output, for the list of steps.
    """

    room: str
    group: str
    summary: str


STEPS: dict[str, Step] = {
    "sample-photos": Step("pipelines.samples", "Photos", "draw photos of invented buildings, to try the other steps"),
    "edge-maps": Step("pipelines.photos", "Photos", "photos or sketches -> edge maps"),
    "build": Step(
        "pipelines.networks", "Networks", "name of a network -> model.keras, with pretrained or given weights"
    ),
    "convert": Step("pipelines.networks", "Networks", "published network (.pth, .mat) -> model.keras"),
    "extract": Step("pipelines.descriptors", "Descriptors", "photos -> descriptors"),
    "whiten": Step("pipelines.descriptors", "Descriptors", "network + matching photos -> network with whitening"),
    "reconstruct": Step("pipelines.sfm", "Structure from motion", "unordered photos -> 3D models"),
    "pairs": Step("pipelines.sfm", "Structure from motion", "photos -> pairs to match, for COLMAP and hloc"),
    "clean": Step(
        "pipelines.cleaning", "Training", "one folder per landmark -> the photos that show it, each with its box"
    ),
    "tuples": Step(
        "pipelines.training_tuples", "Training", "3D models, folders, lists or positions -> training tuples"
    ),
    "train": Step(
        "pipelines.training", "Training", "tuples -> fine-tuned network with whitening, and a page with curves"
    ),
    "classify": Step("pipelines.training", "Training", "one folder per landmark -> network trained by classification"),
    "train-proposals": Step(
        "pipelines.training", "Training", "photos with boxes of objects -> network with region proposals"
    ),
    "evaluate": Step("pipelines.evaluation", "Evaluation", "network + dataset -> scores of its protocol, and a page"),
    "index": Step("export.indexes", "Index and search", "descriptors -> index, tuned to a recall"),
    "update": Step(
        "export.indexes", "Index and search", "index + descriptors to add or names to delete -> changed index"
    ),
    "search": Step("export.indexes", "Index and search", "index + query photos -> names and scores, and a page"),
    "export-saved-model": Step(
        "export.savedmodel", "Serving", "network -> SavedModel for TensorFlow Serving, checked against Keras"
    ),
    "serve": Step("export.server", "Serving", "SavedModels -> server with the protocols of TensorFlow Serving"),
    "describe": Step("export.client", "Serving", "photos -> descriptors, computed by a server"),
    "query": Step("export.client", "Serving", "photos -> names and scores, from a server with an index"),
    "export-onnx": Step("export.onnx_file", "Serving", "network -> ONNX file, checked against Keras"),
}


def function_name(step: str) -> str:
    """The name of the module of a step and of its public function."""
    return step.replace("-", "_")


def module_name(step: str) -> str:
    """The full name of the module of a step in the installed package.

    Raises:
        KeyError: the step does not exist.
    """
    return f"keras_retrieval.{STEPS[step].room}.{function_name(step)}"


def steps_of(wing: str) -> dict[str, str]:
    """Maps the function of each step of "pipelines" or "export" to its module, relative to that package."""
    return {
        function_name(step): f".{room.partition('.')[2]}.{function_name(step)}"
        for step, (room, _, _) in STEPS.items()
        if room.startswith(f"{wing}.")
    }
