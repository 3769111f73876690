"""Executes the notebooks of the documentation: `python -m docs.notebooks.execute` stores their results in them.

The site shows what is stored and executes nothing. Notebooks run in an empty folder, so that their results contain no
path of a machine.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PARAMETERS = "parameters"  # the tag of the cell whose values `execute` replaces
SECONDS = 1800  # for one cell


def execute(path: Path, folder: Path, parameters: Mapping[str, Any] | None = None) -> nbformat.NotebookNode:
    """Executes a notebook in a kernel of its own.

    Args:
        path: the notebook, which is not changed.
        folder: working directory of the kernel.
        parameters: values that replace those of the notebook's cell with the tag "parameters".

    Returns:
        The notebook with its results.

    Raises:
        CellExecutionError: a cell has raised an error.
        ValueError: a parameter is not in that cell.
    """
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        (cell,) = [cell for cell in notebook.cells if PARAMETERS in cell.metadata.get("tags", [])]
        lines = [line for line in cell.source.split("\n") if line.partition(" = ")[0] not in parameters]
        if len(lines) + len(parameters) != len(cell.source.split("\n")):
            raise ValueError(f"{path.name}: {', '.join(parameters)}: not all are in the cell with the parameters")
        cell.source = "\n".join([*lines, *(f"{name} = {value!r}" for name, value in parameters.items())])
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, kernel_name="python3", timeout=SECONDS, resources=resources).execute()
    return notebook


def store(path: Path) -> None:
    """Executes a notebook and stores the results in it, without progress and times, which differ each time."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(path, Path(folder))
        prefix = f"{Path(folder).resolve()}/"
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if "text" in output:
                    output.text = output.text.replace(prefix, "")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for notebook_path in NOTEBOOKS:
        print(notebook_path.name, flush=True)
        store(notebook_path)
