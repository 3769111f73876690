"""The chain reconstruct, tuples, train; its child processes are faked, since they have tests of their own."""

import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from export.application.errors import StepFailedError
from export.application.training import (
    RANDOM,
    ChainOptions,
    Outcome,
    calibration_tuples,
    intake_arguments,
    train_on_photos,
)
from pipelines.command.options import help_texts
from pipelines.photos.intake_options import IntakeOptions
from pipelines.sfm.reconstruct import reconstruct
from pipelines.training.train import train
from pipelines.training_tuples.tuples import tuples
from tests.helpers import small

STEPS = {"reconstruct": reconstruct, "tuples": tuples, "train": train}


class Children:
    """Stands for the child processes: writes what the steps write."""

    def __init__(self, work, clusters=8, links=(), scores=(0.3, 0.9), aside=0.1):
        self.work, self.clusters, self.links, self.scores, self.aside = work, clusters, links, scores, aside
        self.calls, self.fail = [], []

    def __call__(self, steps, log, **_):
        for step in steps:
            self.calls.append(list(step))
            self._check(step)
            getattr(self, step[0])(step)

    def _check(self, step):
        """Every flag is an option of the real step."""
        known = {f"--{name.replace('_', '-')}" for name in help_texts(STEPS[step[0]])}
        assert {flag for flag in step if flag.startswith("--")} <= known

    def _may_fail(self, name, log):
        if name in self.fail:
            self.fail.remove(name)
            raise StepFailedError(f"{name} failed", f"{name} failed", log)

    def reconstruct(self, step):
        folder = self.work / "models"
        folder.mkdir(exist_ok=True)
        (folder / "database.db").touch()
        self._may_fail("reconstruct", self.work)
        if self.clusters is None:
            reason = "all 3 photos are unusable; the first is a.jpg: COLMAP finds no features in it"
            raise StepFailedError(reason, reason, self.work)
        clusters = [{"photos": ["a.jpg"]}] * self.clusters
        report = {"clusters": clusters, "same_object": self.links, "photo_count": 9}
        (folder / "report.json").write_text(json.dumps(report))

    def tuples(self, step):
        Path(step[2]).touch()

    def train(self, step):
        run = Path(step[step.index("--output") + 1])
        run.mkdir(exist_ok=True)
        (run / "checkpoint.npz").touch()
        self._may_fail("train", self.work)
        before, after = self.scores
        scores = {"before": before, "after": after, "queries": 24, "objects": 2}
        counts = {"training": {"photos": 1000 - 1000 * self.aside}, "validation": {"photos": 1000 * self.aside}}
        results = {"tuples": counts, "validation_scores": scores if before is not None else None}
        (run / "results.json").write_text(json.dumps(results))

    def names(self):
        return [call[0] for call in self.calls]


@pytest.fixture
def options(tmp_path):
    small.draw_folder(tmp_path / "photos", 2)
    (tmp_path / "net.keras").write_bytes(b"weights")
    return ChainOptions(photos=tmp_path / "photos", work=tmp_path / "work", model=tmp_path / "net.keras", size=320)


def test_the_chain_and_its_outcome(options):
    children, seen = Children(options.work), []
    outcome = train_on_photos(options, seen.append, run=children)
    assert children.names() == ["reconstruct", "tuples", "train"]
    assert outcome.network == options.work / "run" / "model.keras"
    assert (outcome.before, outcome.after, outcome.better, outcome.queries) == (0.3, 0.9, True, 24)
    assert outcome.message == (
        "mAP 30.0 before training, 90.0 after, over 24 photos of 2 objects that were not trained on"
    )
    train_call = children.calls[2]
    assert "--score-validation" in train_call
    assert train_call[train_call.index("--test-size") + 1] == "320"
    assert train_call[train_call.index("--precision") + 1] == "auto"
    assert train_call[train_call.index("--chunk") + 1] == "7", "one tuple at a time: large networks need much memory"
    assert [progress.step for progress in seen] == [1, 2]
    assert seen[0].seconds_left > seen[1].seconds_left > 0


def test_a_network_that_is_not_better_is_not_taken(options):
    assert not train_on_photos(options, run=Children(options.work, scores=(0.5, 0.5))).better
    unmeasured = train_on_photos(
        ChainOptions(**{**vars(options), "size": 200}), run=Children(options.work, scores=(None, None))
    )
    assert not unmeasured.better
    assert "could not be compared" in unmeasured.message


def test_many_photos_set_aside_are_trained_on_once_they_have_served(options):
    """Two of a few objects are many photos, from which the network that is kept should learn, too."""
    children = Children(options.work, aside=0.25)
    outcome = train_on_photos(options, run=children)
    assert outcome.network == options.work / "run-all" / "model.keras"
    assert (outcome.before, outcome.after) == (0.3, 0.9)
    assert outcome.message.endswith("; it was then trained on all 8 objects in the same way")
    assert children.names() == ["reconstruct", "tuples", "train", "tuples", "train"]
    first, second = (call for call in children.calls if call[0] == "tuples")
    assert (first[first.index("--validation") + 1], second[second.index("--validation") + 1]) == ("0.1", "0")
    assert "--score-validation" not in children.calls[-1]
    worse = Children(options.work / "other", scores=(0.5, 0.4), aside=0.25)
    train_on_photos(ChainOptions(**{**vars(options), "work": options.work / "other"}), run=worse)
    assert worse.names() == ["reconstruct", "tuples", "train"]


@pytest.mark.parametrize(
    ("clusters", "links", "text"),
    [
        (None, [], "COLMAP finds no features in it"),
        (0, [], "no object could be reconstructed from these photos"),
        (3, [], "only 3 different objects could be reconstructed"),
        (5, [[0, 1], [1, 2], [2, 3]], "only 2 different objects could be reconstructed"),
        (2, [[0, 1]], "only 1 different object could be reconstructed"),
    ],
)
def test_photos_of_too_few_objects_are_an_outcome_in_words(options, clusters, links, text):
    children = Children(options.work, clusters, links)
    outcome = train_on_photos(options, run=children)
    assert (outcome.network, outcome.better) == (None, False)
    assert text in outcome.message
    assert "the search is not changed" in outcome.message
    assert children.names() == ["reconstruct"]


def test_the_message_of_photos_without_features_is_that_of_reconstruct(tmp_path):
    from pipelines.sfm.errors import ReconstructionError

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (60, 40), (128, 128, 128)).save(tmp_path / "photos" / "flat.png")
    with pytest.raises(ReconstructionError, match="photos are unusable"):
        reconstruct(tmp_path / "photos", tmp_path / "models", pairs="exhaustive")


def test_an_onnx_network_is_not_trained(options):
    children = Children(options.work)
    other = options.model.rename(options.model.with_suffix(".onnx"))
    outcome = train_on_photos(ChainOptions(**{**vars(options), "model": other}), run=children)
    assert outcome.network is None
    assert outcome.message == "an .onnx network such as net.onnx cannot be trained"
    assert children.calls == []


@pytest.mark.parametrize(("clusters", "negatives"), [(4, "1"), (6, "3"), (8, "5"), (50, "5")])
def test_negatives_leave_two_objects_to_measure_on(options, clusters, negatives):
    children = Children(options.work, clusters)
    train_on_photos(options, run=children)
    for call in children.calls[1:]:
        assert call[call.index("--negatives") + 1] == negatives


def test_an_equal_chain_is_not_run_again_and_a_changed_photo_starts_it(options):
    children = Children(options.work)
    first = train_on_photos(options, run=children)
    assert train_on_photos(options, run=children) == first
    assert len(children.calls) == 3
    small.draw(options.photos / "new.png", 20, 30, seed=5)
    train_on_photos(options, run=children)
    assert children.names()[3:] == ["reconstruct", "tuples", "train"]
    assert children.calls[-1][-1] == "--resume", "which the step refuses if the tuples are others"


def test_an_interrupted_training_continues_and_a_damaged_one_begins_anew(options):
    children = Children(options.work)
    children.fail = ["train"]
    with pytest.raises(StepFailedError, match="train failed"):
        train_on_photos(options, run=children)
    train_on_photos(options, run=children)
    assert children.names()[3:] == ["reconstruct", "tuples", "train"]
    assert children.calls[-1][-1] == "--resume"
    (options.work / "outcome.json").unlink()
    children.calls, children.fail = [], ["train"]
    train_on_photos(options, run=children)
    assert children.names() == ["reconstruct", "tuples", "train", "tuples", "train"]
    assert "--resume" not in children.calls[-1]


def test_a_reconstruction_that_cannot_continue_begins_anew_once(options):
    children = Children(options.work)
    children.fail = ["reconstruct"]
    with pytest.raises(StepFailedError):
        train_on_photos(options, run=children)
    (options.work / "models" / "old").touch()
    children.fail = ["reconstruct"]
    train_on_photos(options, run=children)
    assert not (options.work / "models" / "old").exists()
    children.fail = ["reconstruct", "reconstruct"]
    (options.work / "outcome.json").unlink()
    with pytest.raises(StepFailedError):
        train_on_photos(options, run=children)


def test_options_reach_the_steps(options):
    children = Children(options.work)
    with zipfile.ZipFile(options.model, "w") as file:
        file.writestr("config.json", json.dumps({"config": {"layers": [{"config": {"name": "whitening"}}]}}))
    intake = IntakeOptions(exclude=["*.gif", "b/"], hidden=True, accept_truncated=True)
    train_on_photos(ChainOptions(**{**vars(options), "intake": intake, "recipe": RANDOM}), run=children)
    reconstruct_call, tuples_call, train_call = children.calls
    for call in (reconstruct_call, tuples_call):
        assert call[-6:] == intake_arguments(intake) == [
            "--exclude", "*.gif", "--exclude", "b/", "--hidden", "--accept-truncated",
        ]  # fmt: skip
    assert reconstruct_call[reconstruct_call.index("--pairs") + 1] == "vocabulary-tree"
    assert "--accept-truncated" in train_call
    assert train_call[train_call.index("--whiten") + 1] == "none", "the network ends with a whitening"


def test_probabilities_are_learned_from_objects_that_were_not_trained_on(tmp_path):
    found = {
        name: calibration_tuples(Outcome(tmp_path / name, before, 0.5, 9, 4, ""), tmp_path)
        for name, before in (("run/model.keras", 0.3), ("run-all/model.keras", 0.3), ("run/worse.keras", 0.6))
    }
    tuples = tmp_path / "tuples.npz"
    assert found == {
        "run/model.keras": (tuples, True), "run-all/model.keras": None, "run/worse.keras": (tuples, False),
    }  # fmt: skip
