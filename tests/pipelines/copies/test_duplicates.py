import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_retrieval.errors import ArgumentError
from pipelines.copies import low_frequencies, thumbnails
from pipelines.copies.duplicates import duplicates
from pipelines.copies.file import read_groups
from pipelines.copies.find import DuplicatesError, find_copies
from pipelines.files.cache_folder import CACHE_VARIABLE
from pipelines.files.durable import FolderError
from pipelines.photos.formats import PhotoFolderError
from pipelines.photos.intake import list_photos
from tests.helpers.copied_photos import CHANGES, save, scene
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.owned_files import replaceable


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path):
    for seed in range(6):
        save(tmp_path / "photos", f"{seed}.jpg", scene(seed), quality=92)
    return tmp_path / "photos"


def groups(photos, tmp_path, **options):
    return {frozenset(names) for names in read_groups(duplicates(photos, output=tmp_path / "out", **options))}


def content(tmp_path):
    return json.loads((tmp_path / "out" / "duplicates.json").read_text(encoding="utf-8"))


def test_without_copies_there_is_no_group(photos, tmp_path, capsys):
    assert groups(photos, tmp_path) == set()
    assert "no copies among 6 photos" in capsys.readouterr().out
    assert "no copies among 6 photos" in (tmp_path / "out" / "index.html").read_text()
    assert not replaceable(tmp_path / "out")


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(photos, tmp_path, change):
    save(photos, "below/copy.jpg", CHANGES[change](scene(3)), quality=60)
    assert groups(photos, tmp_path) == {frozenset({"3.jpg", "below/copy.jpg"})}
    assert content(tmp_path)["groups"][0]["kind"] == "near"
    assert groups(photos, tmp_path, near=False) == set()


def test_photos_at_an_address_have_the_copies_of_a_local_folder(photos, tmp_path, monkeypatch):
    (photos / "copy.jpg").write_bytes((photos / "2.jpg").read_bytes())
    save(photos, "below/copy.jpg", CHANGES["resized"](scene(3)), quality=60)
    (photos / "cut.jpg").write_bytes((photos / "1.jpg").read_bytes()[:900])
    local, page = groups(photos, tmp_path), (tmp_path / "out" / "index.html").read_text()
    with faulty_storage(monkeypatch) as faults:
        upload(photos, "bucket/photos")
        faults.every, faults.outage = 5, (0.0, 60.0)
        assert groups("faulty://bucket/photos", tmp_path) == local != set()
        assert content(tmp_path)["photos"] == "faulty://bucket/photos"
        assert json.loads((tmp_path / "out" / "left_out.json").read_text()).keys() == {"cut.jpg"}
        assert page.count("data:image") == (tmp_path / "out" / "index.html").read_text().count("data:image") > 0
        faults.requests.clear()
        find_copies(Path("faulty://bucket/photos"), ["0.jpg", "1.jpg"])
        assert [request for request, _ in faults.requests if request != "find"] == []


def test_same_bytes_are_exact_and_only_bytes_are_enough(photos, tmp_path, capsys):
    (photos / "copy.jpg").write_bytes((photos / "2.jpg").read_bytes())
    for near in (True, False):
        assert groups(photos, tmp_path, near=near) == {frozenset({"2.jpg", "copy.jpg"})}
        (group,) = content(tmp_path)["groups"]
        assert (group["kind"], [photo["same_bytes"] for photo in group["photos"]]) == ("exact", [True, True])
        assert "1 of 7 photos are copies" in capsys.readouterr().out


def test_an_orientation_in_exif_is_applied_before_photos_are_compared(photos, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(photos, "upright.jpg", scene(1).transpose(Image.Transpose.ROTATE_90), exif=exif, quality=90)
    assert groups(photos, tmp_path) == {frozenset({"1.jpg", "upright.jpg"})}
    assert [(photo["width"], photo["height"]) for photo in content(tmp_path)["groups"][0]["photos"]] == [(320, 240)] * 2


def test_all_copies_of_a_photo_are_one_group_and_the_largest_is_kept(photos, tmp_path):
    large = scene(0).resize((640, 480), Image.Resampling.BICUBIC)
    save(photos, "zz-large.jpg", large, quality=90)
    for name, change in CHANGES.items():
        save(photos, f"{name}.jpg", change(scene(0)), quality=70)
    save(photos, "cropped-twice.jpg", CHANGES["resized"](CHANGES["cropped"](scene(0))), quality=70)
    expected = {"0.jpg", "zz-large.jpg", "cropped-twice.jpg", *(f"{name}.jpg" for name in CHANGES)}
    assert groups(photos, tmp_path) == {frozenset(expected)}
    assert content(tmp_path)["groups"][0]["keep"] == "zz-large.jpg"


def test_of_equal_files_the_oldest_is_kept_then_the_first_name(photos, tmp_path):
    for name in ("b.jpg", "a.jpg", "c.jpg"):
        (photos / name).write_bytes((photos / "4.jpg").read_bytes())
    for name in ("4.jpg", "a.jpg", "b.jpg"):
        os.utime(photos / name, ns=(10**18 + 5, 10**18 + 5))
    os.utime(photos / "c.jpg", ns=(10**18, 10**18))
    groups(photos, tmp_path)
    assert read_groups(tmp_path / "out") == [["c.jpg", "4.jpg", "a.jpg", "b.jpg"]]


def test_two_views_of_one_scene_are_no_copies(photos, tmp_path):
    # The foreground moves against the background, as between two places from which a photo is taken.
    back, front = scene(100), scene(101, 110, 130)
    for name, left in (("left.jpg", 90), ("right.jpg", 112)):
        view = back.copy()
        view.paste(front, (left, 60))
        save(photos, name, view, quality=95)
    assert groups(photos, tmp_path) == set()


def test_flat_photos_are_copies_only_in_one_colour(photos, tmp_path):
    for name, colour, size in (
        ("white.png", "white", (100, 80)), ("white2.jpg", "white", (70, 56)), ("white3.png", "white", (300, 80)),
        ("black.png", "black", (100, 80)), ("black2.png", "black", (99, 80)),
        ("red.png", (200, 0, 0), (100, 80)), ("green.png", (0, 102, 0), (100, 80)),
        ("dot.png", (128, 128, 128), (1, 1)),
    ):  # fmt: skip
        save(photos, name, Image.new("RGB", size, colour))
    assert groups(photos, tmp_path) == {
        frozenset({"white.png", "white2.jpg", "white3.png"}),
        frozenset({"black.png", "black2.png"}),
    }
    assert content(tmp_path)["counts"]["featureless"] == 8


def test_smooth_gradients_are_not_taken_for_each_other(photos, tmp_path):
    for name, low in (("dusk.png", 0), ("dawn.png", 100)):
        ramp = np.linspace(low, low + 120, 200).astype(np.uint8)
        save(photos, name, Image.fromarray(np.repeat(ramp[:, None], 200, axis=1)))
    assert groups(photos, tmp_path) == set()


def test_hundreds_of_blank_pages_and_of_copies_are_one_group_each(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(low_frequencies, "NEAREST", 4)
    for number in range(60):
        save(photos, f"blank-{number}.png", Image.new("L", (40 + number, 60), 255))
        save(photos, f"copy-{number}.jpg", scene(5).resize((200 + number, 150)), quality=80)
    found = groups(photos, tmp_path)
    assert {len(group) for group in found} == {60, 61}
    assert len(found) == 2


def test_tiny_photos(photos, tmp_path):
    for seed, size in ((0, (1, 1)), (1, (3, 2)), (2, (8, 8)), (3, (1, 40))):
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        save(photos, f"tiny{seed}.png", Image.fromarray(pixels))
        save(photos, f"tiny{seed}.bmp", Image.fromarray(pixels))
    expected = {frozenset({f"tiny{seed}.png", f"tiny{seed}.bmp"}) for seed in range(4)}
    assert groups(photos, tmp_path) == expected


def test_photos_that_cannot_be_read_are_compared_by_their_bytes(photos, tmp_path, capsys):
    broken = (photos / "0.jpg").read_bytes()[:900]
    for name in ("broken.jpg", "broken2.jpg"):
        (photos / name).write_bytes(broken)
    assert groups(photos, tmp_path) == {frozenset({"broken.jpg", "broken2.jpg"})}
    assert "1 photos cannot be read" in capsys.readouterr().out
    left_out = json.loads((tmp_path / "out" / "left_out.json").read_text())
    assert list(left_out) == ["broken.jpg"]


def test_empty_folders_and_single_photos(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(PhotoFolderError, match="contains no photo"):
        duplicates(tmp_path / "photos", output=tmp_path / "out")
    save(tmp_path / "photos", "a.jpg", scene(0))
    assert groups(tmp_path / "photos", tmp_path) == set()


def test_a_second_run_reads_only_what_has_changed(photos, tmp_path, monkeypatch):
    first = groups(photos, tmp_path)
    read = []
    plain = thumbnails._thumbnail
    monkeypatch.setattr(
        thumbnails, "_thumbnail", lambda folder, name, cut: read.append(name) or plain(folder, name, cut)
    )
    assert groups(photos, tmp_path) == first
    assert read == []
    save(photos, "5.jpg", scene(77))
    save(photos, "new.jpg", scene(78))
    groups(photos, tmp_path)
    assert sorted(read) == ["5.jpg", "new.jpg"]


def test_a_run_goes_on_after_a_kill(photos, tmp_path, monkeypatch, cache):
    program = (
        "import os, sys\n"
        "from pipelines.copies import thumbnails\n"
        "thumbnails._SHARD, thumbnails._PORTION = 2, 2\n"
        "stored = []\n"
        "store = thumbnails._Cache.store\n"
        "def stop(self):\n"
        "    store(self)\n"
        "    stored.append(1)\n"
        "    os._exit(9) if len(stored) == 2 else None\n"
        "thumbnails._Cache.store = stop\n"
        "from pipelines.copies.duplicates import duplicates\n"
        f"duplicates({str(photos)!r}, output={str(tmp_path / 'out')!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 9
    read = []
    plain = thumbnails._thumbnail
    monkeypatch.setattr(
        thumbnails, "_thumbnail", lambda folder, name, cut: read.append(name) or plain(folder, name, cut)
    )
    assert groups(photos, tmp_path) == set()
    assert len(read) == 2


def test_a_damaged_cache_is_made_again(photos, tmp_path, cache):
    save(photos, "copy.jpg", scene(3), quality=50)
    expected = groups(photos, tmp_path)
    for suffix in ("*.json", "*.npy"):
        for damage in (lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"[]"):
            for file in (cache / "thumbnails").rglob(suffix):
                file.write_bytes(damage(file.read_bytes()))
            assert groups(photos, tmp_path) == expected


def test_without_a_cache_everything_stays_in_memory(photos, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, "")
    save(photos, "copy.jpg", scene(3), quality=50)
    assert groups(photos, tmp_path) == {frozenset({"3.jpg", "copy.jpg"})}


def test_pairs_of_a_network_are_compared_too(photos):
    save(photos, "heavy.jpg", scene(2).crop((0, 0, 256, 192)), quality=90)  # 80 % of each side
    names = list_photos(photos)
    assert find_copies(photos, names).groups == []
    pairs = np.array([[names.index("heavy.jpg"), row] for row in range(len(names))])
    assert [set(group.names) for group in find_copies(photos, names, pairs=pairs).groups] == [{"2.jpg", "heavy.jpg"}]


def test_bad_options_are_named(photos, tmp_path):
    with pytest.raises(ArgumentError, match="--no-near"):
        duplicates(photos, output=tmp_path / "out", near=False, model="vgg16_gem")
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="is a file"):
        duplicates(photos, output=tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"), ("[]", "is damaged"), ('{"version": 2, "groups": []}', "has layout 2"),
        ('{"version": 1, "groups": [{"photos": [{"name": 3}]}]}', "a name is not text"),
    ],
)  # fmt: skip
def test_a_file_of_copies_that_cannot_be_read_is_named(text, message, tmp_path):
    (tmp_path / "duplicates.json").write_text(text)
    with pytest.raises(DuplicatesError, match=message):
        read_groups(tmp_path)
    with pytest.raises(DuplicatesError, match="does not exist"):
        read_groups(tmp_path / "missing.json")


def test_real_near_views_are_no_copies(shared, tmp_path):
    photos = shared / "data" / "photos"
    if not photos.is_dir():
        pytest.skip(f"{photos} is missing")
    names = [name for name in list_photos(photos) if name.startswith(("fountain_p11", "fox", "kermit"))]
    assert len(names) > 30
    assert find_copies(photos, names).groups == []
