"""The step groups: the photos of synthetic objects, its files, and what is refused."""

import csv
import json
import shutil

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError

from export.folder_index.folder_index import FolderIndex
from export.grouping.groups import groups
from export.grouping.options import GroupsOptions
from export.grouping.result import Group, write_links
from export.index_contract.calibration import FILE, Calibration, Curve, network_of, write_calibration
from export.index_contract.errors import CalibrationError
from keras_retrieval.errors import ArgumentError
from tests.helpers import small
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.owned_files import replaceable
from tests.helpers.small_index import indexed, unit

OBJECTS, VIEWS, OTHERS, DIMENSIONS = 5, 6, 20, 32


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An index of views of five objects and of other photos, with a calibration, and small photos."""
    folder, chance = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    rows = np.repeat(unit(chance.normal(size=(OBJECTS, DIMENSIONS))), VIEWS, axis=0)
    rows = unit(rows + 0.05 * chance.normal(size=rows.shape))
    rows = np.concatenate([rows, unit(chance.normal(size=(OTHERS, DIMENSIONS)))])
    names = [f"{row // VIEWS}/{row}.png" for row in range(OBJECTS * VIEWS)] + [f"x/{row}.png" for row in range(OTHERS)]
    for number, name in enumerate(names):
        small.draw(folder / "photos" / name, 12, 16, seed=number)
    indexed(folder, rows, names)
    place = folder / "index"
    network = network_of(FolderIndex(place).facts, DIMENSIONS)
    write_calibration(
        place / FILE, Calibration({"global": Curve(-40.0, (50.0, 20.0))}, 0.999, network, {"queries": 998})
    )
    return folder


def test_each_object_is_a_group_and_others_are_in_none(made, tmp_path, capsys):
    found = groups(str(made / "index"), tmp_path / "out", photos=made / "photos", links=True)
    assert [{name.split("/")[0] for name in one.names} for one in found] == [{str(one)} for one in range(OBJECTS)]
    assert {len(one.names) for one in found} == {VIEWS}
    assert "30 of 50 photos in 5 groups" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "groups.json").read_text())
    assert not replaceable(tmp_path / "out")
    assert [one["photos"] for one in content["groups"]] == [one.names for one in found]
    assert min(pair["probability"] for one in content["groups"] for pair in one["pairs"]) >= 0.99
    with (tmp_path / "out" / "groups.csv").open(newline="") as file:
        table = {row["photo"]: row["object"] for row in csv.DictReader(file)}
    assert len(table) == 50
    assert {table[name] for name in found[2].names} == {"3"}
    assert table["x/0.png"] == ""
    page = (tmp_path / "out" / "groups.html").read_text()
    assert "object 5 · 6 photos" in page
    links = sorted((tmp_path / "out" / "objects" / "001").iterdir())
    assert [link.resolve() for link in links] == [(made / "photos" / name).resolve() for name in found[0].names]


def test_a_second_run_replaces_the_files_of_the_first(made, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first = groups(str(made / "index"), out, photos=made / "photos", links=True)
    (out / "objects" / "001" / "stray").symlink_to("nowhere")
    assert groups(str(made / "index"), out, photos=made / "photos", links=True) == first
    assert not (out / "objects" / "001" / "stray").is_symlink()
    assert len(groups(str(made / "index"), out, photos=made / "photos", min_probability=0.5, neighbours=2)) >= 1
    groups(str(made / "index"), out, photos=made / "photos")
    page = (out / "groups.html").read_text()
    with faulty_storage(monkeypatch) as faults:
        upload(made / "photos", "bucket/photos")
        faults.every, faults.outage = 5, (0.0, 60.0)
        assert groups(str(made / "index"), out, photos="faulty://bucket/photos") == first
        assert json.loads((out / "groups.json").read_text())["photos"] == "faulty://bucket/photos"
        assert (out / "groups.html").read_text() == page
        with pytest.raises(ArgumentError, match="faulty://bucket/photos is an address: name"):
            groups(str(made / "index"), out, photos="faulty://bucket/photos", links=True)
        with pytest.raises(ArgumentError, match="faulty://bucket/photos is an address: name"):
            GroupsOptions("faulty://bucket/photos", out, like=str(made / "index"), links=True)
        GroupsOptions("faulty://bucket/photos", out, like=str(made / "index"))


def test_an_index_at_an_address_is_grouped_as_a_folder_is(made, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    here = groups(str(made / "index"), tmp_path / "here", photos=made / "photos")
    with faulty_storage(monkeypatch) as faults:
        upload(made / "index", "bucket/index")
        faults.every, faults.outage = 7, (0.0, 60.0)
        assert groups("faulty://bucket/index", tmp_path / "there", photos=made / "photos") == here
        with pytest.raises(FolderError, match=r"faulty://bucket/none has no manifest\.json: it is not an index"):
            groups("faulty://bucket/none", tmp_path / "none", photos=made / "photos")
        with pytest.raises(CalibrationError, match=r"0\.9999"):  # found with the copy, before the work
            groups(str(made / "photos"), tmp_path / "none", like="faulty://bucket/index", min_probability=0.9999)
        plain = shutil.copytree(made / "index", tmp_path / "plain")
        (plain / FILE).unlink()
        upload(plain, "bucket/plain")
        with pytest.raises(CalibrationError, match="keras-retrieval calibrate faulty://bucket/plain TUPLES"):
            groups("faulty://bucket/plain", tmp_path / "none", photos=made / "photos")
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_promised_or_does_not_fit_is_refused(made, tmp_path):
    index, photos = str(made / "index"), made / "photos"
    with pytest.raises(CalibrationError, match=r"--min-probability 0\.9999: .* 998 queries"):
        groups(index, tmp_path / "out", min_probability=0.9999)
    with pytest.raises(ArgumentError, match="name a calibrated index with --like"):
        groups(str(photos), tmp_path / "out")
    with pytest.raises(ArgumentError, match=r"leave --like \S+ out"):
        groups(index, tmp_path / "out", like=index)
    with pytest.raises(ArgumentError, match="--model vgg16_gem is the network of --like"):
        groups(index, tmp_path / "out", model="vgg16_gem")
    plain = shutil.copytree(made / "index", tmp_path / "plain")
    (plain / FILE).unlink()
    with pytest.raises(CalibrationError, match=f"keras-retrieval calibrate {plain} TUPLES"):
        groups(str(plain), tmp_path / "out")
    with pytest.raises(CalibrationError, match="keras-retrieval calibrate"):
        groups(str(photos), tmp_path / "out", like=str(plain))
    assert len(groups(str(plain), tmp_path / "out", calibration=made / "index" / FILE, photos=photos)) == OBJECTS


def test_files_that_it_did_not_write_are_never_lost(made, tmp_path):
    index, out = str(made / "index"), tmp_path / "out"
    (out / "objects" / "001").mkdir(parents=True)
    (out / "objects" / "001" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(FolderError, match=r"mine\.jpg was not written by this step"):
        groups(index, out, photos=made / "photos", links=True)
    groups(index, out, photos=made / "photos")
    assert (out / "objects" / "001" / "mine.jpg").read_bytes() == b"mine"
    (tmp_path / "other" / "groups.csv").mkdir(parents=True)
    with pytest.raises(FolderError, match=r"groups\.csv is a folder"):
        groups(index, tmp_path / "other", photos=made / "photos")
    with pytest.raises(FolderError, match="would be taken for photos"):
        groups(index, made / "photos" / "out", photos=made / "photos", links=True)


def test_links_of_other_groups_do_not_stay(made, tmp_path):
    index, out = str(made / "index"), tmp_path / "out"
    groups(index, out, photos=made / "photos", links=True)
    groups(index, out, photos=made / "photos", min_probability=0.5)
    assert not (out / "objects").exists()
    with pytest.raises(ArgumentError, match=r"/photos does not exist: .*--photos"):
        groups(index, out, links=True)


def test_a_name_that_leaves_no_room_for_a_number_has_a_link(tmp_path):
    long = f"{'x' * 251}.png"
    assert write_links(tmp_path, [Group([long, "b.png"], [])], tmp_path / "photos") == 2
    assert sorted(one.name for one in (tmp_path / "objects" / "001").iterdir()) == ["001.png", "002-b.png"]


def test_what_is_missing_or_damaged_is_named(made, tmp_path):
    with pytest.raises(FolderError, match="nowhere does not exist"):
        groups(str(tmp_path / "nowhere"), tmp_path / "out")
    broken = shutil.copytree(made / "index", tmp_path / "broken")
    (broken / "local").mkdir()
    (broken / "local" / "contents.json").write_text("[")
    document = json.loads((broken / FILE).read_text())
    document["curves"]["verified"] = {"intercept": 0, "weights": {"similarity": 1, "nearness": 1, "inliers": 1}}
    (broken / FILE).write_text(json.dumps(document))
    with pytest.raises(FolderError, match=r"contents\.json is damaged"):
        groups(str(broken), tmp_path / "out")
    (broken / "manifest.json").write_text("{")
    with pytest.raises(FolderError, match=r"manifest\.json is damaged"):
        groups(str(broken), tmp_path / "out")
    with pytest.raises(CalibrationError, match="learned without local features"):
        groups(str(made / "index"), tmp_path / "out", local=made / "descriptors")
