"""Files of folders that steps made are told from those beside them, and every option of every step protects them."""

import pytest
from keras_retrieval.pipelines.command.kinds import Writes
from keras_retrieval.pipelines.command.options import declarations
from keras_retrieval.pipelines.files.durable import MANIFEST, partial_of, seal, write_file
from keras_retrieval.pipelines.files.finished_folders import (
    COPIES,
    EVALUATION,
    KINDS,
    RECONSTRUCTION,
    TRAINED,
    owner_of,
)

from keras_retrieval.errors import RetrievalError
from keras_retrieval.steps import STEPS
from tests.helpers.step_faults import options_of


def made(folder, kind):
    """A folder of a kind with all its files; * in a name stands for nothing."""
    folder.mkdir()
    for name in {*kind.marks, *kind.files}:
        (folder / name.replace("*", "")).touch()
    for name in kind.folders:
        (folder / name).mkdir()
        (folder / name / "inner.html").touch()
    return folder


def sealed(folder):
    partial = partial_of(folder)
    (partial / "deep").mkdir(parents=True)
    write_file(partial / "deep" / "file", "content")
    return seal(partial, folder, kind="thing", version=1)


def test_the_files_of_a_folder_are_told_from_those_beside_them(tmp_path):
    folder = sealed(tmp_path / "out")
    for name in ("deep/changes", "page.html", "calibration.json", "calibration-0123.json"):
        (folder / name).touch()
    for name in (MANIFEST, "deep/file", "deep/changes"):
        assert owner_of(folder / name) == (folder, "thing")
    for name in ("calibration.json", "calibration-0123.json"):
        assert owner_of(folder / name) == (folder, "calibrations of an index")
    for file in (folder / "page.html", tmp_path / "page.html", tmp_path / "calibration.json"):
        assert owner_of(file) is None
    (folder / MANIFEST).write_text("[]")
    assert owner_of(folder / "deep" / "file") is None
    folder = made(tmp_path / "models", RECONSTRUCTION)
    for name in ("report.json", "images/inner.html", "models/1/0/cameras.txt"):
        assert owner_of(folder / name) == (folder, "a reconstruction")
        assert owner_of(folder / name, [RECONSTRUCTION]) is None
    assert owner_of(folder / "search.html") is None
    (folder / "database.db").unlink()
    assert owner_of(folder / "report.json") is None
    # Both have results.json and page.html.
    assert owner_of(made(tmp_path / "run", TRAINED) / "page.html")[1] == "a training run"
    assert owner_of(made(tmp_path / "evaluation", EVALUATION) / "page.html")[1] == "an evaluation"


@pytest.mark.parametrize("step", STEPS)
def test_no_step_writes_to_files_of_another(step, tmp_path):
    folders = [made(tmp_path / str(number), kind) for number, kind in enumerate(KINDS)]
    for name, option in declarations(options_of(step)).items():
        kind, function = option.kind, getattr(option.kind, "__name__", "") == "check_output"
        if not isinstance(kind, Writes) and not function:
            continue
        for folder, finished in zip(folders, KINDS, strict=True):
            if isinstance(kind, Writes) and finished in kind.made:
                continue
            if isinstance(kind, Writes) and kind.what == "folder":
                shared = {*finished.files} & {file for own in kind.made for file in own.files}
                if not shared:
                    kind(option.label(name), folder)
                    continue
                with pytest.raises(RetrievalError, match=f"{folder} contains .*: name another folder"):
                    kind(option.label(name), folder)
                continue
            for file in (path for path in folder.rglob("*") if path.is_file()):
                if function and file.suffix != ".json":
                    continue
                if file.name == MANIFEST:  # an empty one
                    continue
                with pytest.raises(RetrievalError, match=f"{file} is part of {folder}, which contains"):
                    kind(option.label(name), file)


def test_a_step_takes_its_own_folder_again(tmp_path):
    Writes("folder", made=(COPIES,))("--output", made(tmp_path / "copies", COPIES))
    with pytest.raises(RetrievalError, match=r"models contains a reconstruction, of which a file would be replaced"):
        Writes("folder", made=(COPIES,))("--output", made(tmp_path / "models", RECONSTRUCTION))
