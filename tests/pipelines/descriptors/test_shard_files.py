"""Shards in Parquet: the rows of .npy, for every reader of descriptors."""

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import read_crops, read_descriptors
from pipelines.descriptors.shard_files import ShardFormat, read_boxes, read_rows, shard_paths
from pipelines.files.durable import FolderError
from tests.helpers.small import draw_folder, saved_network

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(saved_network(tmp_path_factory.mktemp("network")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "photos"
    draw_folder(folder, 6)
    return folder


@pytest.mark.parametrize(("storage", "error"), [("float32", 0), ("float16", 2**-11)])
def test_a_file_gives_the_rows_back_and_says_their_type(tmp_path, storage, error):
    rng = np.random.default_rng(0)
    rows, boxes = rng.normal(size=(9000, 5)).astype(np.float32), rng.random((9000, 4), np.float32)
    names = [f"{row} ü\n.jpg" for row in range(9000)]
    ShardFormat("parquet", storage).write(tmp_path, 3, rows, names, boxes)
    (path,) = shard_paths(tmp_path)
    np.testing.assert_allclose(read_rows(path), rows, rtol=error, atol=1e-7 if error else 0)
    assert read_rows(path).dtype == np.float32
    np.testing.assert_array_equal(read_boxes(path), boxes)
    table = parquet.read_table(path)
    assert table.column("name").to_pylist() == names
    kind = table.schema.field("descriptor").type
    assert (str(kind.value_type), kind.list_size) == ({"float32": "float", "float16": "halffloat"}[storage], 5)


@pytest.mark.parametrize("crops", ["", "1,2"])
def test_a_folder_is_read_as_one_of_npy(small, photos, tmp_path, crops):
    read = read_crops if crops else read_descriptors
    npy = extract(small, photos, tmp_path / "npy", crops=crops, shard=4)
    folder = extract(small, photos, tmp_path / "parquet", crops=crops, shard=4, format="parquet")
    assert len(shard_paths(folder)) == 2
    assert not list(folder.glob("*.npy"))
    if crops:
        one, other = read(npy), read(folder)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        one, other = (one.shards, one.names), (other.shards, other.names)
    else:
        one, other = read(npy), read(folder)
    np.testing.assert_array_equal(np.concatenate(one[0]), np.concatenate(other[0]))
    assert one[1] == other[1]
    assert extract(small, photos, folder, crops=crops, shard=4, format="parquet") == folder
    with pytest.raises(FolderError, match="other photos or options"):
        extract(small, photos, folder, crops=crops, shard=4)


def test_a_damaged_file_is_named(tmp_path):
    ShardFormat("parquet").write(tmp_path, 0, np.eye(3, dtype=np.float32), ["a", "b", "c"])
    (path,) = shard_paths(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FolderError, match=r"descriptors-00000.parquet is not a Parquet file .*: extract again with"):
        read_rows(path)


@pytest.mark.parametrize("crops", ["", "1,2"])
def test_reordered_rows_are_refused_with_file_and_row(small, photos, tmp_path, crops):
    folder = extract(small, photos, tmp_path / "out", shard=4, format="parquet", crops=crops)
    path = shard_paths(folder)[1]
    table = parquet.read_table(path)
    order = [*range(len(table))]
    order[0], order[-1] = order[-1], order[0]
    parquet.write_table(table.take(order), path)
    first = len(parquet.read_table(shard_paths(folder)[0])) + 1
    (last,), (listed,) = (table.column("name").to_pylist()[place::9999] for place in (order[0], order[-1]))
    said = rf"descriptors-00001\.parquet, row 1: the photo is {last}, and {listed} in line {first} of names\.txt"
    with pytest.raises(FolderError, match=said):
        (read_crops if crops else read_descriptors)(folder)


def test_float16_needs_parquet(small, photos, tmp_path):
    with pytest.raises(ArgumentError, match="--storage float16 needs --format parquet"):
        extract(small, photos, tmp_path / "out", storage="float16")
