"""Which files of a step's folder another step may replace."""

from pathlib import Path

from keras_retrieval.pipelines.files.finished_folders import owner_of

ENDINGS = {".json", ".html", ".csv", ".txt", ".npz", ".keras", ".onnx"}  # of the files that other steps write


def replaceable(folder: Path) -> list[str]:
    """The names of the files in a folder which the options of another step do not protect."""
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix in ENDINGS]
    return sorted(path.name for path in files if owner_of(path) is None)
