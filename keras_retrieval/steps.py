"""The table of steps. A step is one command of `keras-retrieval`, such as `extract`.

Each step is implemented by a module with one public function, both named as the command with "_" for "-". The command
line, the short Python paths such as `keras_retrieval.pipelines.extract`, and the pages of the documentation about
commands are generated from this table.
"""

from typing import NamedTuple


class Step(NamedTuple):
    """An entry of the table of steps.

    Attributes:
        room: the package that contains the module of the step, relative to `keras_retrieval`, such as
            "pipelines.descriptors".
        group: the heading under which `keras-retrieval --help` lists the step, such as "Training".
        summary: the description of the step in that list, one line, mostly as "input -> output".
    """

    room: str
    group: str
    summary: str


STEPS: dict[str, Step] = {
    "app": Step("export.application", "All in one", "photos -> search page that follows the folder"),
    "demo": Step(
        "export.application", "All in one", "photos or none -> search before and after training, and a search page"
    ),
    "sample-photos": Step("pipelines.samples", "Photos", "synthetic photos of buildings, to try the other steps"),
    "duplicates": Step("pipelines.copies", "Photos", "photos -> groups of copies, and a page"),
    "edge-maps": Step("pipelines.photos", "Photos", "photos or sketches -> edge maps"),
    "positions": Step("pipelines.gps", "Photos", "photos -> table of their GPS positions, headings and times"),
    "build": Step(
        "pipelines.networks", "Networks", "name of a network -> model.keras, with pretrained or given weights"
    ),
    "convert": Step("pipelines.networks", "Networks", "published network (.pth, .safetensors, .mat ..) -> model.keras"),
    "weights": Step("pipelines.networks", "Networks", "published files of weights: what there is, licences, downloads"),
    "extract": Step("pipelines.descriptors", "Descriptors", "photos -> descriptors"),
    "whiten": Step("pipelines.whitening", "Descriptors", "network + matching photos -> network with whitening"),
    "reconstruct": Step("pipelines.sfm", "Structure from motion", "unordered photos -> 3D models"),
    "pairs": Step("pipelines.sfm", "Structure from motion", "photos -> pairs to match, for COLMAP and hloc"),
    "localize": Step("export.localizing", "Structure from motion", "3D models + photos -> poses of their cameras"),
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
    "calibrate": Step(
        "export.calibration", "Index and search", "index + tuples -> probability that two photos show the same object"
    ),
    "groups": Step("export.grouping", "Index and search", "index or photos -> groups of photos by object, and a page"),
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
    """Returns the name of a step's module, which is also the name of its public function.

    Args:
        step: the name of the command, such as "train-proposals", which gives "train_proposals".
    """
    return step.replace("-", "_")


def module_name(step: str) -> str:
    """Returns the full name of a step's module in the installed package.

    Args:
        step: the name of the command, such as "extract", which gives "keras_retrieval.pipelines.descriptors.extract".

    Raises:
        KeyError: there is no such step.
    """
    return f"keras_retrieval.{STEPS[step].room}.{function_name(step)}"


def steps_of(wing: str) -> dict[str, str]:
    """Lists the steps of one of the two packages that contain steps.

    Args:
        wing: the package, "pipelines" or "export".

    Returns:
        A dict from the name of each step's function to its module relative to the package, such as
        {"extract": ".descriptors.extract", ..}.
    """
    return {
        function_name(step): f".{room.partition('.')[2]}.{function_name(step)}"
        for step, (room, _, _) in STEPS.items()
        if room.startswith(f"{wing}.")
    }
