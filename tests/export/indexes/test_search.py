"""Search: queries are described like the photos of the index, never find themselves, and are scored by mAP."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError
from PIL import Image

from export.index_contract.errors import CalibrationError
from export.indexes.index import index
from export.indexes.page import SHOWN
from export.indexes.search import search
from keras_retrieval.metrics import average_precision
from keras_retrieval.ranking.methods import parse, rank
from pipelines.descriptors.extract import extract
from pipelines.photos.reader import read_photo
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small import draw, saved_network, shards

pytest.importorskip("scann")

SCRIPT = "<script>alert(1)<"  # and "/script>" is a folder of it
PHOTOS = {f"object {number}/{view}.png": 10 * number + view // 2 for number in range(4) for view in range(5)}
PHOTOS |= {f"{SCRIPT}/script>.png": 95, 'q"uote &amp;.png': 96}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with photos, descriptors of them and an index."""
    folder = tmp_path_factory.mktemp("made")
    for number, (name, seed) in enumerate(PHOTOS.items()):
        draw(folder / "photos" / name, 40 + number % 3, 56, seed=seed)
    model = str(saved_network(folder))
    index(extract(model, folder / "photos", folder / "descriptors"), folder / "index")
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A copy that tests may change; its index refers to the photos and the network of the first folder."""
    return shutil.copytree(made, tmp_path / "copy")


def names_of(made):
    return sorted(PHOTOS, key=lambda name: ((40 + list(PHOTOS).index(name) % 3), name))


def test_neighbours_are_those_of_all_products_without_the_query(made):
    names, rows = names_of(made), shards(made / "descriptors")
    found = search(str(made / "index"), [made / "photos"], k=6)
    assert [query.query for query in found] == [made / "photos" / name for name in sorted(PHOTOS)]
    for query in found:
        assert query.own == query.query.relative_to(made / "photos").as_posix()
        own = names.index(query.own)
        products = rows @ rows[own]
        products[own] = -np.inf
        assert query.own not in query.names
        assert len(query.names) == 6
        np.testing.assert_allclose(query.scores, np.sort(products)[::-1][:6], atol=1e-5)
        np.testing.assert_allclose(products[[names.index(name) for name in query.names]], query.scores, atol=1e-5)


def test_an_index_at_an_address_is_searched_as_a_folder_is(made, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    queries = [made / "photos" / name for name in list(PHOTOS)[:2]]
    here = search(str(made / "index"), queries, k=4)
    elsewhere = shutil.copy(queries[0], tmp_path / "query.png")  # of a photo in the index the page lacks itself
    search(str(made / "index"), [elsewhere], k=4, html=tmp_path / "here.html")
    with faulty_storage(monkeypatch) as faults:
        upload(made / "index", "bucket/index")
        faults.every, faults.outage = 7, (0.0, 60.0)
        upload(made / "photos", "bucket/photos")
        there = search("faulty://bucket/index", queries, k=4)
        place = {"photos": "faulty://bucket/photos", "html": tmp_path / "there.html"}
        search("faulty://bucket/index", [elsewhere], k=4, **place)
        assert (tmp_path / "there.html").read_text() == (tmp_path / "here.html").read_text()
        with pytest.raises(FolderError, match="faulty://bucket/index has no local features"):
            search("faulty://bucket/index", queries, verify=5)
        with pytest.raises(CalibrationError, match="`keras-retrieval calibrate faulty://bucket/index TUPLES`"):
            search("faulty://bucket/index", queries, min_probability=0.9)
        with pytest.raises(FolderError, match="faulty://bucket/none"):
            search("faulty://bucket/none", queries)
    assert [(one.names, one.scores.tolist(), one.own) for one in there] == [
        (one.names, one.scores.tolist(), one.own) for one in here
    ]


def test_the_names_of_a_large_index_are_not_listed(made, monkeypatch):
    monkeypatch.setattr(
        "export.folder_index.folder_index.FolderIndex.names", property(lambda index: pytest.fail("all listed"))
    )
    monkeypatch.setattr("export.indexes.ranking.NAMES_PER_SEARCH", 5)
    found = search(str(made / "index"), [made / "photos"], k=3)
    assert [query.own for query in found] == sorted(PHOTOS)


@pytest.mark.parametrize("k", [1, 21, 22, 1000])
def test_a_query_of_the_index_has_one_neighbour_less_than_there_are_photos(made, k):
    (inside,) = search(str(made / "index"), [made / "photos" / "object 1" / "0.png"], k=k)
    assert len(inside.names) == min(k, len(PHOTOS) - 1)


def test_a_query_from_elsewhere_has_all_photos_as_neighbours(made, tmp_path, monkeypatch):
    """Also if its path relative to the working folder is the name of a photo in the index."""
    (tmp_path / "object 1").mkdir()
    shutil.copy(made / "photos" / "object 1" / "0.png", tmp_path / "object 1")
    monkeypatch.chdir(tmp_path)
    (query,) = search(str(made / "index"), [Path("object 1/0.png")], k=1000)
    assert query.own is None
    assert len(query.names) == len(PHOTOS)
    assert query.scores[0] == pytest.approx(1, abs=1e-4)


def test_links_to_and_in_the_folder_are_known(made, tmp_path):
    (tmp_path / "link.png").symlink_to(made / "photos" / "object 1" / "0.png")
    (tmp_path / "folder").symlink_to(made / "photos")
    for query in (tmp_path / "link.png", tmp_path / "folder" / "object 1" / "0.png"):
        (found,) = search(str(made / "index"), [query])
        assert found.own == "object 1/0.png"
    photos = tmp_path / "photos"
    draw(photos / "a.png", 40, 40)
    draw(tmp_path / "outside.png", 44, 40, seed=1)
    (photos / "b.png").symlink_to(tmp_path / "outside.png")
    folder = index(extract(str(made / "small.keras"), photos, tmp_path / "descriptors"), tmp_path / "index")
    (found,) = search(folder, [photos / "b.png"])
    assert (found.own, found.names) == ("b.png", ["a.png"])


def test_only_the_box_is_described(made, tmp_path):
    pixels = read_photo(made / "photos" / "object 2" / "0.png")
    wide = np.concatenate([np.zeros_like(pixels), pixels], axis=1)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    width = pixels.shape[1]
    (whole,) = search(str(made / "index"), [tmp_path / "wide.png"])
    (part,) = search(str(made / "index"), [tmp_path / "wide.png"], box=f"{width},0,{2 * width},{pixels.shape[0]}")
    (photo,) = search(str(made / "index"), [made / "photos" / "object 2" / "0.png"], k=1000)
    assert part.scores[0] == pytest.approx(1, abs=1e-5)
    assert whole.scores[0] < 0.9999
    own = np.array(part.names) != photo.own
    np.testing.assert_allclose(np.sort(part.scores[own])[::-1][:5], photo.scores[:5], atol=1e-5)


@pytest.mark.parametrize("box", ["", "1,2,3", "1,2,3,x", "1,2,3,4,5"])
def test_a_box_that_is_none_is_told(made, box):
    with pytest.raises(ValueError, match=r"--box .*left,top,right,bottom"):
        search(str(made / "index"), [made / "photos" / "object 1"], box=box)


@pytest.mark.parametrize("box", ["0,0,5000,10", "9,9,9,9", "nan,0,9,9"])
def test_a_box_that_does_not_fit_is_told(made, box, capsys):
    with pytest.raises(ValueError, match="none of the query photos"):
        search(str(made / "index"), [made / "photos" / "object 1" / "0.png"], box=box)
    assert "left out:" in capsys.readouterr().out


def test_the_score_is_the_mean_of_every_query_s_average_precision(made, capsys):
    names, rows = names_of(made), shards(made / "descriptors")
    expected = []
    for own, name in enumerate(names):
        order = [row for row in np.argsort(-(rows @ rows[own]), kind="stable") if row != own]
        hits = [Path(names[row]).parent == Path(name).parent for row in order]
        if any(hits):
            expected.append(average_precision(np.flatnonzero(hits), sum(hits)))
    search(str(made / "index"), [made / "photos"], score=True, objects="folders")
    said = capsys.readouterr().out
    assert f"mAP {100 * np.mean(expected):.1f} over 20 queries in 22 photos" in said
    assert 50 < 100 * np.mean(expected) < 100


def test_objects_of_one_name_in_two_folders_are_two(tmp_path, made, capsys):
    for number, name in enumerate(("a/x/1", "a/x/2", "b/x/1", "b/x/2")):
        draw(tmp_path / "photos" / f"{name}.png", 40, 40, seed=number // 2)
    folder = index(extract(str(made / "small.keras"), tmp_path / "photos", tmp_path / "descriptors"), tmp_path / "i")
    with pytest.raises(ValueError, match="2 folders are named x: a/x and b/x, one object or 2"):
        search(folder, [tmp_path / "photos"], score=True)
    search(folder, [tmp_path / "photos"], score=True, objects="folders", html=tmp_path / "page.html", k=3)
    assert "mAP 100.0 over 4 queries" in capsys.readouterr().out
    marks = re.findall(r'class="(right|wrong)"', (tmp_path / "page.html").read_text())
    assert marks == ["right", "wrong", "wrong"] * 4


def test_a_score_without_objects_is_refused(made, tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / "photos" / f"{name}.png", 40, 40)
    folder = index(extract(str(made / "small.keras"), tmp_path / "photos", tmp_path / "descriptors"), tmp_path / "i")
    with pytest.raises(ValueError, match="photos has no sub-folders with photos"):
        search(folder, [tmp_path / "photos"], score=True)
    with pytest.raises(ValueError, match="no query has any"):
        search(str(made / "index"), [made / "photos" / 'q"uote &amp;.png'], score=True, objects="folders")


class Page(HTMLParser):
    """The texts, tags and queries of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.titles, self.pictures = [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.titles += [value for key, value in attributes if key == "title"]
        self.pictures += [dict(attributes)["class"]] if ("role", "img") in attributes else []

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_holds_pictures_and_escaped_names(made, tmp_path, capsys):
    path = tmp_path / "new folder" / "page.html"
    search(str(made / "index"), [made / "photos"], k=4, html=path)
    assert f"page: {path.resolve()}" in capsys.readouterr().out
    page = Page(path)
    assert page.tags.count("script") == 0
    assert page.tags.count("section") == len(PHOTOS)
    assert len(page.pictures) == 5 * len(PHOTOS)
    assert {f"{SCRIPT}/script>.png", 'q"uote &amp;.png'} <= set(page.titles)
    assert "<script>alert" not in page.source
    assert page.source.count("data:image/jpeg;base64,") == len(PHOTOS)
    assert not re.search(r"https?://", page.source)


def test_a_query_from_elsewhere_is_shown_as_it_is(made, tmp_path, monkeypatch):
    Image.new("RGB", (90, 60), "red").save(tmp_path / "0.png")
    monkeypatch.chdir(tmp_path)
    search(str(made / "index"), [Path("0.png")], k=1, html=Path("page.html"))
    assert Page(tmp_path / "page.html").source.count("data:image/jpeg;base64,") == 2
    assert Page(tmp_path / "page.html").titles[0] == str(tmp_path / "0.png")


def test_a_neighbour_whose_picture_is_gone_leaves_its_name(copy):
    photos = copy / "photos"
    (photos / "object 1" / "1.png").unlink()
    (photos / "object 1" / "2.png").write_bytes(b"broken")
    search(str(copy / "index"), [photos / "object 1" / "0.png"], k=21, html=copy / "page.html", photos=photos)
    page = Page(copy / "page.html")
    assert {"object 1/1.png", "object 1/2.png"} <= set(page.titles)
    assert page.source.count("data:image/jpeg;base64,") == len(PHOTOS) - 2
    assert [name for name, css in zip(page.titles, page.pictures, strict=True) if css == "photo unread"] == [
        name for name in page.titles if name in ("object 1/1.png", "object 1/2.png")
    ]


def test_a_page_shows_a_bounded_number_of_queries(made, tmp_path):
    queries = tmp_path / "queries"
    for number in range(SHOWN + 7):
        draw(queries / f"{number:02}.png", 40, 40, seed=number)
    search(str(made / "index"), [queries], k=1, html=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert page.tags.count("section") == SHOWN
    assert f"{SHOWN} of {SHOWN + 7} queries shown" in page.texts


def test_queries_that_cannot_be_read_are_told(made, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    photo = made / "photos" / "object 1" / "0.png"
    (found,) = search(str(made / "index"), [tmp_path / "broken.jpg", photo, photo])
    assert found.query == photo
    assert f"left out: {tmp_path / 'broken.jpg'}: a text file" in capsys.readouterr().out
    with pytest.raises(ValueError, match="none of the query photos can be read"):
        search(str(made / "index"), [tmp_path / "broken.jpg"])
    with pytest.raises(FileNotFoundError, match=r"missing.jpg does not exist"):
        search(str(made / "index"), [tmp_path / "missing.jpg"])
    with pytest.raises(ValueError, match="missing does not exist"):
        search(str(tmp_path / "missing"), [photo])
    with pytest.raises(ValueError, match="--k must be at least 1, got 0"):
        search(str(made / "index"), [photo], k=0)


def test_the_network_must_be_that_of_the_index(copy, made, tmp_path):
    photo = made / "photos" / "object 1" / "0.png"
    other = saved_network(tmp_path, seed=1)
    for model in (str(other), "vgg16_gem"):
        with pytest.raises(ValueError, match="is not the network that the index was made with"):
            search(str(made / "index"), [photo], model=model)
    (moved,) = search(str(made / "index"), [photo], model=str(copy / "small.keras"))
    (there,) = search(str(made / "index"), [photo])
    assert moved.names == there.names


def test_a_network_that_is_gone_is_asked_for(copy):
    photos = copy / "photos"
    shutil.copy(copy / "small.keras", copy / "moved.keras")
    index(extract(str(copy / "moved.keras"), photos, copy / "more"), copy / "another")
    (copy / "moved.keras").unlink()
    with pytest.raises(ValueError, match=r"no longer at .*moved.keras: pass its path with --model"):
        search(str(copy / "another"), [photos / "object 1" / "0.png"])
    assert search(str(copy / "another"), [photos / "object 1" / "0.png"], model=str(copy / "small.keras"))


def test_queries_are_made_as_the_index_was(made, tmp_path):
    """Scales, size and bfloat16 are those of the index: a photo finds its copy with a score of 1."""
    photos = made / "photos"
    model, descriptors = str(made / "small.keras"), tmp_path / "descriptors"
    folder = index(
        extract(model, photos, descriptors, size=44, scales="1,0.7071", precision="bfloat16"), tmp_path / "index"
    )
    shutil.copy(photos / "object 3" / "4.png", tmp_path / "copy.png")
    (found,) = search(folder, [tmp_path / "copy.png"], k=2)
    assert found.scores[0] == pytest.approx(1, abs=1e-4)


def test_a_page_is_not_in_the_way_of_what_is_printed(made, capsys):
    search(str(made / "index"), [made / "photos" / "object 1" / "0.png"], k=3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("object 1/0.png")
    assert len(lines) == 4
    assert all(re.fullmatch(r"  [01]\.\d{4}  .+", line) for line in lines[1:])


def test_keras_networks_by_name_are_known_again(made, tmp_path, monkeypatch):
    """An index made with a network's name is searched with that name, and refuses others."""
    model = keras.saving.load_model(made / "small.keras")
    monkeypatch.setattr("keras_retrieval.build", lambda name: model)
    photos = made / "photos"
    folder = index(extract("vgg16_gem", photos, tmp_path / "descriptors"), tmp_path / "index")
    assert search(folder, [photos / "object 1" / "0.png"])
    for other in ("vgg16_mac", str(made / "small.keras")):
        with pytest.raises(ValueError, match="is not the network"):
            search(folder, [photos / "object 1" / "0.png"], model=other)


@pytest.mark.parametrize(
    "rerank", ["alphaqe:5", "dba:3,aqe:3", "superglobal:10:3", "diffusion:0:5:3", "diffusion:8:4:3"]
)
def test_methods_at_query_time_are_those_of_the_library(made, rerank):
    names, rows = names_of(made), shards(made / "descriptors")
    own = names.index("object 1/0.png")
    (found,) = search(str(made / "index"), [made / "photos" / "object 1" / "0.png"], k=6, rerank=rerank)
    indexes, scores = rank(rows[own : own + 1], rows, parse(rerank), 7)
    keep = indexes[0] != own
    assert found.names == [names[row] for row in indexes[0][keep][:6]]
    np.testing.assert_allclose(found.scores, scores[0][keep][:6], atol=1e-5)


def test_methods_at_query_time_need_no_descriptors_but_the_index_s(copy):
    query = copy / "photos" / "object 1" / "0.png"
    shutil.rmtree(copy / "descriptors")
    assert search(str(copy / "index"), [query], rerank="aqe")
    with pytest.raises(ValueError, match=r"unknown method 'alphaq'.*alphaqe"):
        search(str(copy / "index"), [query], rerank="alphaq")


def test_a_search_among_some_photos(made, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("photo,kind\n" + "".join(f"object 2/{view}.png,old\n" for view in range(5)))
    folder = str(index(made / "descriptors", tmp_path / "index", columns=table))
    query = [made / "photos" / "object 1" / "0.png"]
    (old,) = search(folder, query, where=["kind=old"])
    assert sorted(old.names) == [f"object 2/{view}.png" for view in range(5)]
    (named,) = search(folder, query, where=["photo=object 2/1.png", "photo=object 3/1.png", "kind=old", "kind=x"])
    assert named.names == ["object 2/1.png"]
    assert len(search(folder, query, where=["kind="], exact=True)[0].names) == 10
    with pytest.raises(ValueError, match="kind is not a condition: write 'year >= 2010'"):
        search(folder, query, where=["kind"])
    with pytest.raises(ValueError, match="no column 'city'; its columns: kind"):
        search(folder, query, where=["city=Paris"])
    with pytest.raises(ValueError, match="--rerank ranks all photos: leave --where out"):
        search(folder, query, where=["kind=old"], rerank="aqe")
    with pytest.raises(ValueError, match="--rerank is always exact: leave --exact out"):
        search(folder, query, exact=True, rerank="aqe")
