"""The step `train` on small photos: its output, the effect of each option, errors, and resuming."""

import csv
import inspect
import json
import re
import subprocess
import sys
from dataclasses import fields
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import keras_retrieval
from keras_retrieval import losses
from keras_retrieval.errors import ArgumentError
from keras_retrieval.layers.gem import gem_layers
from pipelines.command.options import help_texts
from pipelines.descriptors.folder import read_descriptors
from pipelines.descriptors.learn_whitening import learn_whitening
from pipelines.descriptors.matching_pairs import MatchingPairs
from pipelines.evaluation.evaluate import evaluate
from pipelines.files.durable import FolderError
from pipelines.networks import precision as precision_module
from pipelines.training import interpolation, report
from pipelines.training import run as training_run
from pipelines.training.checkpoint import CheckpointError, read_checkpoint
from pipelines.training.errors import TrainingError
from pipelines.training.network import loss_of
from pipelines.training.recipe import RECIPE, RECIPES
from pipelines.training.train import train
from pipelines.training.train_options import TrainOptions
from pipelines.training_tuples.data import TuplesError
from pipelines.training_tuples.file import read_tuples, write_tuples
from tests.helpers.interrupted_training import make_collection, options
from tests.helpers.owned_files import replaceable


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_collection(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def ground_truth(folder):
    queries = [{"photo": f"{scene}/0.png", "positives": [f"{scene}/"]} for scene in range(9)]
    path = folder / "own.json"
    path.write_text(json.dumps({"queries": queries}))
    return path


@pytest.fixture(scope="module")
def run(folder, ground_truth):
    """A run with everything in it."""
    results = train(
        **options(folder, output=folder / "whole", epochs=3, dataset=str(ground_truth),
                  dataset_photos=folder / "photos", scales="1,0.7071", dim=9, tensorboard=True, every=2,
                  score_validation=True)
    )  # fmt: skip
    return folder / "whole", results


def short(folder, name, **changes):
    """One epoch of two steps, without what comes behind it."""
    return options(folder, output=folder / name, **({"epochs": 1, "queries": 10, "whiten": "none"} | changes))


def bare(folder, name, **changes):
    """A short run without photos set aside, whose validation takes a fifth of it."""
    path = folder / "all.npz"
    if not path.exists():
        tuples = read_tuples(folder / "tuples.npz")
        tuples.validation[:] = False
        write_tuples(path, tuples, {})
    return short(folder, name, tuples=path, **changes)


@pytest.fixture(scope="module")
def baseline(folder):
    train(**short(folder, "baseline"))
    return read_checkpoint(folder / "baseline")


@pytest.fixture(scope="module")
def bare_baseline(folder):
    train(**bare(folder, "bare"))
    return read_checkpoint(folder / "bare")


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """Leaves the page out, whose charts take a fourth of a short run; that of `run`, made before, has it."""
    monkeypatch.setattr(report, "training_page", lambda *_: "")


def weights(path):
    return keras_retrieval.load(path).get_weights()


def weights_of(folder, checkpoint):
    """The weights of a checkpoint's best epoch, with GeM's exponent at the scale of a saved network."""
    network = keras_retrieval.load(folder / "small.keras")
    for layer in gem_layers(network):
        layer.set_p_speed(10)
    network.set_weights(checkpoint.best)
    for layer in gem_layers(network):
        layer.set_p_speed(1)
    return network.get_weights()


def farthest(one, other):
    return max(np.abs(a - b).max(initial=0) for a, b in zip(one, other, strict=True))


def test_the_loss_falls_and_every_epoch_has_its_figures(run):
    output, results = run
    losses = [epoch["loss"] for epoch in results["history"]]
    assert losses == sorted(losses, reverse=True)
    rows = list(csv.DictReader((output / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for name in (
        "loss",
        "val_loss",
        "negative_distance",
        "val_negative_distance",
        "p",
        "learning_rate",
        "mining_share",
    ):
        assert [float(row[name]) for row in rows] == [epoch[name] for epoch in results["history"]]
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, 1e-3 * np.exp([0, -0.01, -0.02]), rtol=1e-5)
    assert [row["score: mAP"] != "" for row in rows] == [False, True, False]


def test_photos_set_aside_are_scored_with_a_whitening_that_has_not_seen_them(run, folder):
    output, results = run
    tuples = read_tuples(folder / "tuples.npz")
    train_pairs = ~tuples.validation[tuples.qidxs]
    pairs = MatchingPairs(tuples.images, tuples.qidxs[train_pairs], tuples.pidxs[train_pairs])
    whitening = learn_whitening(output / "descriptors", pairs, "lw")
    shards, names, _ = read_descriptors(output / "descriptors")
    rows = whitening.apply(np.concatenate(shards), 9)
    rows = rows[[names.index(name) for name in tuples.images]]
    precisions = []
    for query in np.flatnonzero(tuples.validation):
        ranking = [row for row in np.argsort(-(rows @ rows[query]), kind="stable") if row != query]
        hits = np.flatnonzero(tuples.cluster[ranking] == tuples.cluster[query])
        found = np.arange(1, len(hits) + 1)
        before = np.where(hits == 0, 1.0, (found - 1) / np.maximum(hits, 1))
        precisions.append(np.mean((before + found / (hits + 1)) / 2))
    scores = results["validation_scores"]
    assert scores["after"] == pytest.approx(np.mean(precisions), abs=1e-6)
    assert (scores["queries"], scores["photos"], scores["objects"]) == (12, 36, 3)
    assert 0 < scores["before"] < 1
    assert scores["before"] != scores["after"]
    assert "mAP" in (output / "page.html").read_text()


def test_model_keras_is_the_best_epoch_with_lw_behind_it(run, folder):
    output, results = run
    best = int(np.argmin([epoch["val_loss"] for epoch in results["history"]])) + 1
    kept = read_checkpoint(output)
    assert kept.best_epoch == best == results["best_epoch"]
    trained, model = keras_retrieval.load(output / "trained.keras"), keras_retrieval.load(output / "model.keras")
    assert [layer.p_speed for layer in gem_layers(trained)] == [1.0]
    np.testing.assert_allclose(gem_layers(trained)[0].p, 10 * kept.best[-1], rtol=1e-6)
    tuples = read_tuples(folder / "tuples.npz")
    lw = learn_whitening(output / "descriptors", MatchingPairs(tuples.images, tuples.qidxs, tuples.pidxs), "lw")
    assert results["whitening"] == {"method": "lw", "dim": 9, "shrinkage": lw.shrinkage}
    kernel, bias = model.get_layer("whitening").get_weights()
    np.testing.assert_allclose(kernel, lw.as_dense(9)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bias, lw.as_dense(9)[1], rtol=1e-4, atol=1e-5)
    assert read_descriptors(output / "descriptors")[2]["scales"] == [1.0, 0.7071]
    photo = np.random.default_rng(0).integers(0, 256, (1, 50, 60, 3)).astype("float32")
    row = model(photo).numpy()
    np.testing.assert_allclose(row, lw.apply(trained(photo).numpy(), 9), atol=1e-4)


def test_scores_are_those_that_evaluate_gives_the_written_networks(run, folder, ground_truth, tmp_path):
    output, results = run
    names = ["pretrained", "pretrained + PCA", "pretrained + Lw", "trained", "trained + Lw"]
    assert list(results["scores"]) == names
    networks = {"pretrained": folder / "small.keras", "trained": output / "trained.keras"}
    for name, network in (networks | {"trained + Lw": output / "model.keras"}).items():
        found = evaluate(
            str(network), dataset=str(ground_truth), photos=folder / "photos", output=tmp_path / name.replace(" ", ""),
            size=56, scales="1,0.7071",
        )  # fmt: skip
        assert found["mean"]["all"]["mAP"] == pytest.approx(results["scores"][name]["all"]["mAP"], abs=1e-6)


def test_results_and_page_say_what_was_done(run):
    output, results = run
    assert json.loads((output / "results.json").read_text()) == results
    assert not replaceable(output)
    assert results["options"]["lr"] == 1e-3
    assert results["margin"] == 0.75
    page = (output / "page.html").read_text()
    assert page.count("<svg") == page.count('<figure class="chart">') == 6
    assert page.count("<section ") == 16
    assert page.count("before training") == page.count(f"after epoch {results['best_epoch']}") == 8
    assert not re.search(r"https?://", page)
    assert list((output / "tensorboard").glob("events*"))


def test_the_samples_have_negatives_of_other_objects(run):
    output, _ = run
    for query, positive, negatives in read_checkpoint(output).samples:
        scenes = [name.split("/")[0] for name in negatives]
        assert query.split("/")[0] == positive.split("/")[0]
        assert query.split("/")[0] not in scenes
        assert len(set(scenes)) == 3


def marked_long(*values):
    """Options that take long, beside others that run the same code."""
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(("changes", "tolerance"), [
    ({"padded": False, "chunk": 4}, 2e-5), ({"chunk": 4}, 2e-5), ({"jit": True}, 2e-5), ({"checkpoint_steps": 0}, 0),
    marked_long({"padded": False}, 2e-5), marked_long({"tensorboard": True}, 0),
])  # fmt: skip
def test_options_of_speed_and_memory_change_no_weight(folder, bare_baseline, changes, tolerance):
    name = "same" + "".join(changes)  # photos fill their maps here, since no convolution pads
    train(**bare(folder, name, **changes))
    assert farthest(read_checkpoint(folder / name).weights, bare_baseline.weights) <= tolerance


@pytest.mark.parametrize("changes", [
    {"precision": "bfloat16"}, {"augment": 0.5}, {"loss": "triplet"}, {"loss": "average-precision"}, {"margin": 1.2},
    {"weight_decay": 0.1}, {"batch": 3}, {"seed": 1}, {"pool": 12}, {"positive": "nearest"}, {"sample": 4},
    *(marked_long(one) for one in (
        {"loss": "batch-hard"}, {"loss": "semi-hard"}, {"loss": "ranking"}, {"lr": 5e-4}, {"negatives": 2},
    )),
], ids=str)  # fmt: skip
def test_options_of_learning_change_the_weights(folder, bare_baseline, changes):
    name = "other" + "".join(f"{key}{value}" for key, value in changes.items())
    results = train(**bare(folder, name, **changes))
    found = read_checkpoint(folder / name).weights
    assert all(np.isfinite(array).all() for array in found)
    assert 1e-6 < farthest(found, bare_baseline.weights) < 1
    assert {key: results["options"][key] for key in changes} == changes


def test_each_loss_is_that_of_its_name_with_its_margin(folder):
    network = SimpleNamespace(name="small", output_shape=(None, 16))
    of_margin = {
        "contrastive": losses.ContrastiveLoss, "triplet": losses.TripletLoss, "batch-hard": losses.BatchHardTripletLoss,
        "semi-hard": losses.SemiHardTripletLoss, "ranking": losses.WeaklySupervisedRankingLoss,
    }  # fmt: skip
    for name, kind in of_margin.items():
        loss = loss_of(TrainOptions(**options(folder, loss=name, margin=0.3)), network)
        assert (type(loss), loss.get_config()["margin"]) == (kind, 0.3)
    assert (
        type(loss_of(TrainOptions(**options(folder, loss="average-precision")), network)) is losses.AveragePrecisionLoss
    )


def test_p_moves_as_many_times_faster_as_asked(folder):
    moved = {}
    for speed in (None, 1.0, 20.0):
        history = train(**bare(folder, f"speed{speed}", p_speed=speed, queries=5))["history"]
        moved[speed] = 3 - history[0]["p"]
    assert moved[None] == pytest.approx(10 * moved[1.0], rel=1e-2)
    assert moved[20.0] == pytest.approx(20 * moved[1.0], rel=1e-2)


def test_decay_and_refresh_act_after_the_first_steps(folder):
    plain = train(**bare(folder, "plain", epochs=2, queries=30))["history"]
    slower = train(**bare(folder, "slower", epochs=2, queries=30, decay=1.0))["history"]
    fresher = train(**bare(folder, "fresher", epochs=2, queries=30, refresh=2))["history"]
    assert plain[0]["loss"] == slower[0]["loss"]
    assert slower[1]["learning_rate"] == pytest.approx(1e-3 * np.exp(-1), rel=1e-5)
    assert plain[1]["loss"] != slower[1]["loss"]
    assert fresher[0]["loss"] != plain[0]["loss"]


def test_frozen_layers_stay_and_the_saved_network_is_free_and_float32(folder):
    train(**bare(folder, "frozen", freeze=1, precision="bfloat16"))
    network = keras_retrieval.load(folder / "frozen" / "model.keras")
    start = keras_retrieval.load(folder / "small.keras")
    first, second = (layer for layer in network.get_layer("trunk").layers if layer.weights)
    was_first, was_second = (layer for layer in start.get_layer("trunk").layers if layer.weights)
    assert farthest(first.get_weights(), was_first.get_weights()) == 0
    assert farthest(second.get_weights(), was_second.get_weights()) > 0
    assert first.trainable
    assert {layer.dtype_policy.name for layer in (first, second)} == {"float32"}


def test_a_cache_of_ones_own_is_used(folder, tmp_path):
    train(**bare(folder, "cached", cache=tmp_path / "cache"))
    assert (tmp_path / "cache" / "names.txt").is_file()
    assert not (folder / "cached" / "photos").exists()
    with pytest.raises(ValueError, match="was made from other photos or options: name another folder, or remove it"):
        train(**bare(folder, "cached2", cache=tmp_path / "cache", size=40))


def test_pca_at_the_end_and_the_last_epoch(folder):
    results = train(**short(folder, "pca", whiten="pca", dim=5, best="last", epochs=2))
    model = keras_retrieval.load(folder / "pca" / "model.keras")
    assert model.output_shape == (None, 5)
    assert results["best_epoch"] == 2
    assert results["whitening"] == {"method": "pca", "dim": 5}


def test_the_best_by_score(folder, ground_truth):
    results = train(
        **short(folder, "score", best="score", dataset=str(ground_truth), dataset_photos=folder / "photos", epochs=3)
    )
    scores = [epoch["score: mAP"] for epoch in results["history"]]
    assert results["best_epoch"] == int(np.argmax(scores)) + 1
    assert results["scores"]["trained"]["all"]["mAP"] == pytest.approx(max(scores), abs=1e-6)
    assert list(results["scores"]) == ["pretrained", "trained"]


def test_without_validation_the_last_epoch_is_kept(folder, tmp_path):
    tuples = read_tuples(folder / "tuples.npz")
    tuples.validation[:] = False
    write_tuples(tmp_path / "all.npz", tuples, {})
    results = train(**short(folder, "all", tuples=tmp_path / "all.npz", epochs=2))
    assert "val_loss" not in results["history"][0]
    assert (results["best_epoch"], results["best_by"]) == (2, "last")
    with pytest.raises(TuplesError, match="--best loss needs validation"):
        train(**short(folder, "all2", tuples=tmp_path / "all.npz", best="loss"))


def test_validation_of_one_object_is_none(folder, tmp_path, caplog):
    tuples = read_tuples(folder / "tuples.npz")
    tuples.validation[:] = tuples.cluster == 8
    write_tuples(tmp_path / "one.npz", tuples, {})
    with caplog.at_level("INFO", logger="keras_retrieval"):
        assert train(**short(folder, "one", tuples=tmp_path / "one.npz"))["best_by"] == "last"
    assert "no validation: all photos that are set aside may show one object" in caplog.text


@pytest.mark.parametrize("kills", ["1", marked_long("3")])
def test_kills_at_random_moments(tmp_path, kills):
    found = subprocess.run(
        [sys.executable, "-m", "tests.helpers.interrupted_training", str(tmp_path), kills],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{kills} kills" in found.stdout


def test_a_run_goes_on_to_more_epochs_as_if_it_had_never_ended(folder):
    train(**short(folder, "long", epochs=3, refresh=1, queries=30, dim=None))
    train(**short(folder, "longer", epochs=2, refresh=1, queries=30))
    train(**short(folder, "longer", epochs=3, refresh=1, queries=30, resume=True))
    one, other = (read_checkpoint(folder / name) for name in ("long", "longer"))
    assert farthest(one.weights, other.weights) <= 1e-6
    assert one.epochs == other.epochs == 3
    for name in ("loss", "val_loss", "negative_distance"):
        assert [row[name] for row in one.history] == pytest.approx([row[name] for row in other.history], abs=1e-6)


def test_ctrl_c_says_how_to_go_on_and_what_is_kept_goes_on(folder, monkeypatch, caplog):
    arguments = short(folder, "stopped", epochs=2, queries=60, checkpoint_steps=2)
    callbacks = training_run._callbacks

    def interrupted(run):
        def stop(batch, logs=None):
            if run.checkpoint.epochs == 1 and batch == 5:
                raise KeyboardInterrupt

        return [*callbacks(run), keras.callbacks.LambdaCallback(on_train_batch_end=stop)]

    monkeypatch.setattr(training_run, "_callbacks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(**arguments)
    kept = "the checkpoint contains 1 epochs and 6 steps of the next"
    assert f"{kept}: the same command with --resume continues" in caplog.text
    monkeypatch.undo()
    train(**arguments, resume=True)
    train(**short(folder, "unstopped", epochs=2, queries=60, checkpoint_steps=2))
    stopped, unstopped = (read_checkpoint(folder / name) for name in ("stopped", "unstopped"))
    assert farthest(stopped.weights, unstopped.weights) <= 1e-6
    assert stopped.history[1]["loss"] == pytest.approx(unstopped.history[1]["loss"], rel=1e-5)


def test_an_unfinished_run_is_not_begun_anew_nor_gone_on_with_otherwise(run, folder):
    arguments = options(folder, output=run[0], epochs=3, dim=9)
    with pytest.raises(CheckpointError, match="contains a run with 3 finished epochs: give --resume"):
        train(**arguments)
    with pytest.raises(CheckpointError, match=r"started with --lr 0.001, not 0.002"):
        train(**arguments | {"lr": 0.002, "resume": True})


def test_auto_is_float32_without_native_kernels_and_resumes_only_as_that(folder, baseline, monkeypatch, caplog):
    """A run records the precision that auto stands for, so that another machine does not change it in silence."""
    monkeypatch.setattr(precision_module, "_gpus", list)
    monkeypatch.delenv(precision_module.VARIABLE)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with caplog.at_level("INFO", logger="keras_retrieval"):
        results = train(**short(folder, "auto", precision="auto"))
    assert "precision: float32 (" in caplog.text
    assert results["options"]["precision"] == read_checkpoint(folder / "auto").options["precision"] == "float32"
    assert farthest(read_checkpoint(folder / "auto").weights, baseline.weights) <= 2e-5
    train(**short(folder, "auto", precision="auto", resume=True, epochs=2))
    monkeypatch.setattr(precision_module, "native_bfloat16", lambda *_: (True, "another machine"))
    with caplog.at_level("INFO", logger="keras_retrieval"):
        train(**short(folder, "auto", precision="auto", resume=True, epochs=3))
    assert "precision: float32 (as it was begun)" in caplog.text
    with pytest.raises(CheckpointError, match=r"started with --precision float32, not bfloat16"):
        train(**short(folder, "auto", precision="bfloat16", resume=True, epochs=4))


@pytest.mark.kernels
def test_a_loss_that_is_not_finite_names_the_rate(folder):
    with pytest.raises(TrainingError, match="lower --lr"):
        train(**short(folder, "burst", lr=1e30, epochs=2))
    assert read_checkpoint(folder / "burst") is None


@pytest.mark.kernels
@pytest.mark.parametrize("changes", [{"refresh": 1}, {"best": "score", "scored": True}], ids=str)
def test_descriptors_that_are_not_finite_name_the_rate_and_not_the_photos(folder, ground_truth, changes, tmp_path):
    """With negatives refreshed by steps, and with a collection scored at the end of each epoch."""
    tuples = read_tuples(folder / "tuples.npz")
    tuples.validation[:] = False
    write_tuples(tmp_path / "all.npz", tuples, {})
    if changes.pop("scored", False):
        changes |= {"dataset": str(ground_truth), "dataset_photos": folder / "photos"}
    with pytest.raises(TrainingError, match=r"(diverged|not all of them finite).*lower --lr"):
        train(**short(folder, tmp_path / "run", tuples=tmp_path / "all.npz", lr=1e30, epochs=2, queries=20, **changes))


def test_photos_that_cannot_be_read_are_left_out(folder, tmp_path):
    photos = tmp_path / "photos"
    for name in read_tuples(folder / "tuples.npz").images:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes((folder / "photos" / name).read_bytes())
    (photos / "0/1.png").write_bytes(b"no photo")
    results = train(**short(folder, "corrupt", photos=photos, whiten="lw", queries=40))
    assert list(results["left_out"]) == ["0/1.png"]
    assert results["history"][0]["loss"] > 0


def test_photos_that_are_gone_cost_their_tuples_only(folder, tmp_path, caplog):
    photos = tmp_path / "photos"
    names = read_tuples(folder / "tuples.npz").images
    for name in names[1:]:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes((folder / "photos" / name).read_bytes())
    with pytest.raises(TuplesError, match=f"1 of {len(names)} photos do not exist: .*--missing skip"):
        train(**short(folder, "strict", photos=photos, missing="error"))
    results = train(**short(folder, "absent", photos=photos, queries=40))
    assert f"1 of {len(names)} photos do not exist" in caplog.text
    assert list(results["left_out"]) == [names[0]]
    assert results["history"][0]["loss"] > 0


def test_photos_that_are_gone_are_named(folder, tmp_path):
    with pytest.raises(TuplesError, match=r"photo 0: .*0/0.png does not exist"):
        train(**short(folder, "gone", photos=tmp_path))
    assert not (folder / "gone").exists()


def test_a_folder_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FolderError, match="file is a file, where a folder is needed"):
        train(**options(folder, output=tmp_path / "file" / "run"))


def test_too_few_clusters_are_told_before_photos_are_read(folder, tmp_path):
    with pytest.raises(ValueError, match="clusters"):
        train(**options(folder, output=tmp_path / "run", negatives=6))
    assert not list((tmp_path / "run").iterdir())


WRONG = [
    ({"loss": "hinge"}, "--loss must be one of contrastive, .*, got hinge"),
    ({"whiten": "zca"}, "--whiten must be one of lw, pca, none, got zca"),
    ({"best": "map"}, "--best must be one of loss, score, last, got map"),
    ({"precision": "half"}, "--precision must be one of float32, bfloat16, auto, got half"),
    ({"lr": 0.0}, "--lr must be above 0, got 0.0"),
    ({"lr": float("nan")}, "--lr must be a finite number, got nan"),
    ({"epochs": 0}, "--epochs must be at least 1, got 0"),
    ({"weight_decay": -1.0}, "--weight-decay must be at least 0, got -1.0"),
    ({"checkpoint_steps": -1}, "--checkpoint-steps must be at least 0, got -1"),
    ({"augment": 1.5}, "--augment must be at most 1, got 1.5"),
    ({"positive": "best"}, "--positive must be one of drawn, nearest, farthest, got best"),
    ({"sample": 2}, "--sample must be 0 or at least --negatives 3, got 2"),
    ({"zoom": 0.0}, "--zoom must be at least 0.1, got 0.0"),
    ({"scales": "1,x"}, "--scales must be factors above 0 and up to 4, .* got 1,x"),
    ({"dataset": "roxford5k"}, "--dataset needs --dataset-photos"),
    ({"best": "score"}, "--best score needs a collection"),
    ({"jit": True, "padded": False}, "--jit cannot be combined with"),
    ({"jit": True, "refresh": 3}, "--jit cannot be combined with"),
    ({"margin": 0.1, "loss": "average-precision"}, "--margin cannot be combined with --loss average-precision"),
    ({"shrinkage": 1.0, "whiten": "pca"}, "--shrinkage needs --whiten lw, got --whiten pca"),
    ({"shift": 0.5, "whiten": "pca"}, "--shift needs --whiten lw, got --whiten pca"),
    ({"shift": 1.5}, "--shift must be"),
    ({"dim": 4, "whiten": "none"}, "--dim needs a whitening"),
    ({"dim": 40}, "--dim must be at most 16, the dimensions of the network, got 40"),
    ({"train_last": 5}, "--train-last must be at most 0, the blocks or stages that the trunk of small has, got 5"),
    ({"train_last": 1, "freeze": 1}, "--train-last and --freeze both freeze layers"),
    ({"checkpoint_blocks": True}, "--checkpoint-blocks needs a vision transformer, and small has none"),
    ({"optimizer": "adagrad"}, "--optimizer must be one of adam, adamw, sgd, got adagrad"),
    ({"schedule": "steps"}, "--schedule steps needs --lr-epochs"),
    ({"lr_epochs": "10,5"}, "--lr-epochs must be increasing numbers such as 10,20, got '10,5'"),
    ({"batch_classes": "4x4"}, "--batch-classes cannot be combined with --loss contrastive, a loss of tuples"),
    ({"loss": "multi-similarity", "batch_classes": "4"}, "--batch-classes must be CLASSESxPHOTOS, .*, got '4'"),
    ({"loss": "multi-similarity", "batch_classes": "4x0"}, "--batch-classes must be CLASSESxPHOTOS, .*, got '4x0'"),
    ({"loss": "multi-similarity", "batch_classes": "4x1"}, "--batch-classes must be at least 2x2, got 4x1"),
    (
        {"loss": "multi-similarity", "batch_classes": "9x3"},
        "needs 9 classes, and at most 6 .* give --batch-classes 6x3",
    ),
    ({"loss": "multi-similarity", "batch_classes": "4x5"}, "at most 0 can be in one batch .*: give fewer photos"),
    ({"loss": "multi-similarity", "batch_classes": "4x3", "refresh": 2}, "cannot be combined with --refresh"),
    ({"loss": "multi-similarity", "batch_classes": "4x3", "memory": 11}, "--memory must be 0 or at least 12"),
    ({"loss": "multi-similarity", "memory": 100}, "--memory needs --loss multi-similarity and --batch-classes"),
    ({"temperature": 0.1}, "--temperature needs --loss info-nce, got --loss contrastive"),
    ({"loss": "info-nce", "margin": 0.1}, "--margin cannot be combined with --loss info-nce"),
    ({"keep_size": 64}, "--keep-size needs --keep"),
    ({"loss": "cosface"}, "--loss cosface needs --batch-classes, such as --batch-classes 32x1"),
    ({"scale": 30.0}, "--scale needs --loss cosface or arcface, got --loss contrastive"),
    ({"sub_centres": 3}, "--sub-centres needs --loss cosface or arcface"),
    ({"steps": 3}, "--steps needs --batch-classes"),
    ({"small_classes": "repeat"}, "--small-classes repeat needs --batch-classes with two photos or more of a class"),
    (
        {"loss": "info-nce", "batch_classes": "4x2", "small_classes": "repeat"},
        "--small-classes repeat needs --zoom or --augment, which make repeated photos different",
    ),
    ({"freeze": 3}, "--freeze must be at most 2, .* trunk of small, got 3"),
    ({"model": "nothing_gem"}, "unknown backbone 'nothing'"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_options_are_named_before_anything_is_computed(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(**options(folder, output=tmp_path / "run", **changes))
    assert not (tmp_path / "run" / "photos").exists()


def test_a_network_with_a_whitening_keeps_it_only_without_another(folder, run, tmp_path):
    whitened = {"model": str(run[0] / "model.keras"), "output": tmp_path / "run", "epochs": 1, "queries": 5}
    with pytest.raises(ValueError, match="give --whiten none"):
        train(**options(folder, **whitened))
    train(**options(folder, whiten="none", **whitened))
    assert farthest(weights(tmp_path / "run" / "model.keras"), weights(run[0] / "model.keras")) > 0


@pytest.mark.parametrize(("network", "margin"), [
    ("vgg16_gem", 0.75), ("resnet101_gem", 0.85), ("torchresnet101_gem", 0.85), ("alexnet_gem", 0.7), ("x", 0.75),
])  # fmt: skip
def test_the_margin_is_that_published_for_the_backbone(folder, network, margin):
    defaults = options(folder)
    assert TrainOptions(**defaults).margin_for(network) == margin
    assert TrainOptions(**defaults | {"margin": 0.3}).margin_for(network) == 0.3
    assert TrainOptions(**defaults | {"loss": "triplet"}).margin_for(network) is None


def test_options_and_the_step_have_the_same_names():
    assert {one.name for one in fields(TrainOptions)} == set(inspect.signature(train).parameters)


def test_the_help_has_the_values_of_the_recipes():
    texts = help_texts(train)
    assert "If not given: 5; 10 for netvlad. [at least 1]" in texts["negatives"]
    assert (
        "If not given: contrastive; ranking for netvlad; multi-similarity for salad, megaloc, boq, mixvpr; cosface"
        in texts["loss"]
    )
    assert "0.75 for vgg, 0.85 for resnet" in texts["margin"]
    assert all("If not given: " in texts[name] for name in RECIPE)
    assert all(set(recipe) <= set(RECIPE) for recipe in RECIPES.values())


def test_options_that_are_not_given_are_those_of_the_recipe(folder):
    arguments = {"tuples": folder / "tuples.npz", "model": "vgg16_netvlad"}
    made = TrainOptions(**arguments)
    assert {name: getattr(made, name) for name in RECIPE} == RECIPE | RECIPES["netvlad"]
    assert made.photos == folder
    made = TrainOptions(**arguments | {"model": "vgg16_gem", "remember": True, "lr": 1.0})
    assert {name: getattr(made, name) for name in RECIPE} == RECIPE | {"remember": True, "lr": 1.0}
    assert {"loss", "lr", "seed", "initialize"} <= made.resumed().keys()
    assert not {"output", "epochs", "resume", "whiten", "cache"} & made.resumed().keys()


def test_interpolated_weights_lie_between_those_before_and_after_training(folder, baseline):
    results = train(**short(folder, "quarter", interpolate="0.25"))
    assert results["interpolation"] == {"share": 0.25}
    between = [
        0.75 * before + 0.25 * after
        for before, after in zip(weights(folder / "small.keras"), weights_of(folder, baseline), strict=True)
    ]
    assert farthest(weights(folder / "quarter" / "model.keras"), between) < 1e-6


def test_the_share_of_the_trained_weights_is_chosen_on_photos_set_aside(folder, baseline, monkeypatch):
    scores, measured, measure = [0.5, 0.7, 0.9, 0.9, 0.6], [], interpolation.score_set_aside

    def score(run):
        measured.append(measure(run))
        return scores[len(measured) - 1]

    monkeypatch.setattr(interpolation, "score_set_aside", score)
    results = train(**short(folder, "chosen", interpolate="auto"))
    assert results["interpolation"] == {"share": 0.75, "mAP": scores}
    assert "75% of the trained weights" in "\n".join(report.facts_of(results))
    middle = [
        (old + 3 * new) / 4
        for old, new in zip(weights(folder / "small.keras"), weights_of(folder, baseline), strict=True)
    ]
    assert farthest(weights(folder / "chosen" / "model.keras"), middle) < 1e-6
    assert len(set(measured)) > 1, "each share is measured with its own weights"
    assert all(0 < one <= 1 for one in measured)


@pytest.mark.parametrize("share", ["1.5", "-0.1", "half", "nan"])
def test_a_share_that_is_no_share_is_refused(folder, share):
    with pytest.raises(ArgumentError, match=r"interpolate must be auto or a number from 0 to 1"):
        train(**short(folder, "refused", interpolate=share))
