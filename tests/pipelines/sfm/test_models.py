"""COLMAP models as programs and people write them: names, formats, and what is missing or damaged."""

import re
import shutil

import pytest

from pipelines.sfm.errors import ModelError
from pipelines.sfm.models import ImageNames, model_folders, read_model, registered_photos
from tests.helpers.small_models import write_model

pycolmap = pytest.importorskip("pycolmap")

NAMES = [
    "a b.jpg", "c/ d.jpg", " first.jpg", "last.jpg ", "two  blanks.jpg", "tab\tx.jpg", "#1.jpg", "C:\\x y\\z.jpg",
    "grün.jpg", "1 2 3.jpg", "%20.jpg", "plain.jpg",
]  # fmt: skip
RIGS = ("rigs", "frames")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same model in both formats."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "bin", NAMES)
    (folder / "txt").mkdir()
    pycolmap.Reconstruction(folder / "bin").write_text(folder / "txt")
    return folder


def edited(models, tmp_path, ending, edits):
    """A copy of a model in which files are removed (None) or replaced by the value of a function of their bytes."""
    folder = shutil.copytree(models / ending, tmp_path / "model")
    for name, edit in edits.items():
        for path in folder.glob(f"{name}.{ending}"):
            content = path.read_bytes()
            path.unlink()
            if edit:
                path.write_bytes(edit(content))
    return folder


def without_points(content):
    """images.txt with an empty second line of each image."""
    lines = [line for line in content.split(b"\n") if not line.startswith(b"#")]
    return b"".join(line + b"\n\n" for line in lines[::2] if line)


def replaced(old, new):
    def edit(content):
        assert old in content
        return content.replace(old, new, 1)

    return edit


OLD = dict.fromkeys(RIGS)  # without the files of COLMAP 3.12
MARK = b"\xef\xbb\xbf"
VARIANTS = {
    "binary": ("bin", {}, 288),
    "binary of COLMAP 3.11": ("bin", OLD, 288),
    "text": ("txt", {}, 288),
    "text of COLMAP 3.11": ("txt", OLD, 288),
    "lines of Windows": ("txt", {"*": lambda content: content.replace(b"\n", b"\r\n")}, 288),
    "byte order marks": ("txt", {"*": lambda content: MARK + content}, 288),
    "no comments": ("txt", {"*": lambda content: re.sub(rb"(?m)^#.*\n", b"", content)}, 288),
    "comments anywhere": ("txt", OLD | {"images": replaced(b" plain.jpg\n", b" plain.jpg\n  # mine\n")}, 288),
    "columns of tabs": ("txt", OLD | {"images": lambda content: re.sub(rb"(?m)^(\d+) ", rb"\1\t", content)}, 288),
    "images without 2D points": ("txt", OLD | {"images": without_points, "points3D": lambda _: b""}, 0),
    "last empty line removed": (
        "txt",
        OLD | {"images": lambda content: without_points(content).rstrip(b"\n"), "points3D": lambda _: b""},
        0,
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_cameras_are_read_as_they_were_written(models, tmp_path, variant):
    ending, edits, points = VARIANTS[variant]
    truth = pycolmap.Reconstruction(models / "bin")
    model = read_model(edited(models, tmp_path, ending, edits))
    assert list(model.names.values()) == NAMES
    assert model.colmap.num_points3D() == (truth.num_points3D() if points else 0)
    for number in model.names:
        image, expected = model.colmap.images[number], truth.images[number]
        assert image.projection_center() == pytest.approx(expected.projection_center(), abs=1e-9)
        assert image.num_points3D == (expected.num_points3D if points else 0)
        assert image.camera.params == pytest.approx(expected.camera.params)


def test_colmap_ends_names_at_blanks_so_that_they_are_not_read_by_it(models):
    """The reason for reading names here: without it, this test may go, and `copy_text` with it."""
    names = {image.name for image in pycolmap.Reconstruction(models / "txt").images.values()}
    assert "a" in names
    assert "a b.jpg" not in names


MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV", "FOV",
          "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE")  # fmt: skip


@pytest.mark.parametrize("ending", ["bin", "txt"])
def test_cameras_of_any_model_and_rigs_of_several_cameras(tmp_path, ending):
    model = pycolmap.Reconstruction()
    rig = pycolmap.Rig(rig_id=1)
    frame = pycolmap.Frame(frame_id=1, rig_id=1, rig_from_world=pycolmap.Rigid3d())
    shift = pycolmap.Rigid3d(pycolmap.Rotation3d(), [0.5, 0, 0])
    for number, kind in enumerate(MODELS, start=1):
        model.add_camera(
            pycolmap.Camera.create_from_model_id(number, getattr(pycolmap.CameraModelId, kind), 700.0, 800, 600)
        )
        sensor = pycolmap.sensor_t(pycolmap.SensorType.CAMERA, number)
        rig.add_ref_sensor(sensor) if number == 1 else rig.add_sensor(sensor, shift)
        frame.add_data_id(pycolmap.data_t(sensor, number))
    model.add_rig(rig)
    model.add_frame(frame)
    for number in range(1, len(MODELS) + 1):
        model.add_image(pycolmap.Image(name=f"photo {number}.jpg", camera_id=number, image_id=number, frame_id=1))
    model.register_frame(1)
    (tmp_path / "model").mkdir()
    (model.write_binary if ending == "bin" else model.write_text)(tmp_path / "model")
    found = read_model(tmp_path / "model")
    assert list(found.names.values()) == [f"photo {number}.jpg" for number in range(1, len(MODELS) + 1)]
    assert found.colmap.images[2].projection_center() == pytest.approx([-0.5, 0, 0])


DAMAGED = {
    "no cameras.txt": ("txt", {"cameras": None}, r"model is not a whole COLMAP model, it lacks cameras\.txt: copy all"),
    "no points3D.bin": ("bin", {"points3D": None}, r"it lacks points3D\.bin"),
    "only points3D.txt": ("txt", {"cameras": None, "images": None}, r"it lacks cameras\.txt and images\.txt"),
    "no rigs.bin": ("bin", {"rigs": None}, r"model has frames\.bin but lacks rigs\.bin"),
    "cut off": ("bin", {"images": lambda content: content[:-9]}, r"images\.bin is damaged or cut off at [\d,]+ bytes"),
    "cut in a name": ("bin", {"images": lambda content: content[:74]}, r"images\.bin is damaged or cut off at 74 "),
    "no bytes": ("bin", {"points3D": lambda _: b""}, r"points3D\.bin is damaged or cut off at 0 bytes"),
    "unknown camera": ("txt", {"cameras": replaced(b" SIMPLE_PINHOLE ", b" SQUARE ")},
                       r"cameras\.txt, line 4: '1 SQUARE .* has the camera model SQUARE, which the installed COLMAP"),
    "unknown camera number": ("bin", {"cameras": lambda content: content[:12] + b"\x63" + content[13:]},
                              r"cameras\.bin: camera 1 is of a model with the number 99, which the installed COLMAP"),
    "decimal commas": ("txt", {"cameras": lambda content: content.replace(b".", b",")},
                       r"cameras\.txt, line 4: .* is not CAMERA_ID MODEL WIDTH HEIGHT PARAMS, .* decimal point"),
    "a parameter too few": ("txt", {"cameras": replaced(b" 400 300\n", b" 400\n")}, r"cameras\.txt, line 4: "),
    "poses with commas": ("txt", {"images": lambda content: content.replace(b".", b",")},
                          r"images\.txt, line 5: .* is not IMAGE_ID QW QX .* decimal point"),
    "no name": ("txt", {"images": replaced(b" a b.jpg\n", b" \n")}, r"images\.txt, line 5: .* names no photo"),
    "one line for each image": ("txt", {"images": lambda content: without_points(content).replace(b"\n\n", b"\n")},
                                r"images\.txt, line 2: .* an image has two lines, the second of which is empty"),
    "an ID twice": ("txt", {"images": lambda content: content + b"1 1 0 0 0 0 0 0 1 x.jpg\n\n"},
                    r"images\.txt, line 29: '1 1 0 .* is a second image with the ID 1"),
    "no such camera": ("txt", {"images": lambda content: content + b"77 1 0 0 0 0 0 0 88 x.jpg\n\n"},
                       r"images\.txt, line 29: .* has the camera 88, which cameras\.txt lacks"),
    "points are words": ("txt", OLD | {"points3D": lambda _: b"a b c\n"}, r"model cannot be read as a COLMAP model \("),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_model_is_named_with_its_file_and_line(models, tmp_path, damage):
    ending, edits, message = DAMAGED[damage]
    with pytest.raises(ModelError, match=message) as caught:
        read_model(edited(models, tmp_path, ending, edits))
    assert str(tmp_path / "model") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D", "rigs", "frames"])
def test_a_binary_file_cut_off_anywhere_is_an_error_at_once(models, tmp_path, name):
    """COLMAP itself may read such a file for hours, allocate all memory, or read a part of it."""
    content = (models / "bin" / f"{name}.bin").read_bytes()
    folder = shutil.copytree(models / "bin", tmp_path / "model")
    for length in {*range(0, len(content), max(1, len(content) // 25)), len(content) - 1}:
        (folder / f"{name}.bin").write_bytes(content[:length])
        with pytest.raises(ModelError, match=f"{name}.bin is damaged or cut off at {length:,} bytes"):
            read_model(folder)


def test_names_that_are_not_utf8_cost_only_their_image(models, tmp_path, caplog):
    for ending in ("bin", "txt"):
        latin = {"images": replaced("grün".encode(), "grün".encode("latin-1"))}
        model = read_model(edited(models, tmp_path / ending, ending, latin))
        assert list(model.names.values()) == [name for name in NAMES if name != "grün.jpg"]
        assert (
            f"{model.folder}: images whose names are not UTF-8 are left out: 1, the first has the ID 9" in caplog.text
        )


def test_model_folders_are_found_although_a_file_is_missing(models, tmp_path):
    for name, files in {
        "a": ["points3D.txt"],
        "b/c": ["cameras.bin", "images.txt"],
        "d": ["images.txt"],
        "e": [],
    }.items():
        (tmp_path / name).mkdir(parents=True)
        for file in files:
            (tmp_path / name / file).touch()
    assert model_folders(tmp_path) == [tmp_path / "a", tmp_path / "b/c"]


PHOTOS = ["a b.jpg", "church/01.jpg", "church/east/02.jpg", "tower/01.jpg", "grün.jpg", "C:\\odd.jpg", "50%25.jpg"]


@pytest.mark.parametrize(
    ("name", "known", "unknown"),
    [
        ("a b.jpg", "a b.jpg", "a b.jpg"),
        ("a%20b.jpg", "a b.jpg", "a%20b.jpg"),  # as `reconstruct` writes it
        ("a b.jpg ", "a b.jpg", "a b.jpg "),
        ("church\\01.jpg", "church/01.jpg", "church/01.jpg"),
        (".\\church\\01.jpg", "church/01.jpg", "church/01.jpg"),
        ("./church//01.jpg", "church/01.jpg", "church/01.jpg"),
        ("C:\\Users\\me\\my photos\\church\\01.jpg", "church/01.jpg", "not a path below"),
        ("D:/photos/church/east/02.jpg", "church/east/02.jpg", "not a path below"),
        ("\\\\server\\share\\tower\\01.jpg", "tower/01.jpg", "not a path below"),
        ("/home/me/tower/01.jpg", "tower/01.jpg", "not a path below"),
        ("..\\tower\\01.jpg", "tower/01.jpg", "not a path below"),
        ("C:\\odd.jpg", "C:\\odd.jpg", "not a path below"),  # a name on Linux
        ("C:\\photos\\01.jpg", None, "not a path below"),
        ("01.jpg", "may be church/01.jpg or tower/01.jpg", "01.jpg"),
        ("50%25.jpg", "50%25.jpg", "50%25.jpg"),
        ("gru\u0308n.jpg", "grün.jpg", "gru\u0308n.jpg"),
        ("x.jpg", None, "x.jpg"),
    ],
)
def test_photos_that_names_of_images_mean(name, known, unknown):
    for photos, expected in ((PHOTOS, known), (None, unknown)):
        names = ImageNames(photos)
        if expected and ("may be" in expected or "not a path" in expected):
            with pytest.raises(ModelError, match=expected):
                names.find(name)
        else:
            assert names.find(name) == expected
            assert names.unknown == ([name] if expected is None else [])


def test_two_images_that_are_one_photo_are_named(tmp_path):
    model = read_model(write_model(tmp_path / "0", ["a\\b.jpg", "a/b.jpg", "c.jpg"]))
    with pytest.raises(ModelError, match=r"0: its images 'a\\b\.jpg' and 'a/b\.jpg' are both the photo a/b\.jpg"):
        ImageNames(None).photos_of(model)


def test_registered_photos_of_all_models_below_a_folder(tmp_path, caplog):
    write_model(tmp_path / "work/0", ["x/a%20b.jpg", "x/c.jpg", "gone.jpg"])
    write_model(tmp_path / "work/1", ["C:\\p\\x\\c.jpg", "C:\\p\\x\\d.jpg"])
    pycolmap.Reconstruction().write(write_model(tmp_path / "work/2", ["e.jpg"]))
    (tmp_path / "work/3").mkdir()
    photos = ["x/a b.jpg", "x/c.jpg", "x/d.jpg", "x/other.jpg"]
    assert registered_photos(tmp_path / "work", photos) == ["x/a b.jpg", "x/c.jpg", "x/d.jpg"]
    assert "work/2 has no registered image and is left out: remove the folder" in caplog.text
    assert "work/3 is an empty folder and no model" in caplog.text
    assert "work: 1 of its images are no photo and are left out: gone.jpg" in caplog.text
    with pytest.raises(ModelError, match=r"none of its images is a photo: an image is .*, a photo z\.jpg"):
        registered_photos(tmp_path / "work", ["z.jpg"])
    with pytest.raises(ModelError, match="its models have no registered image"):
        registered_photos(tmp_path / "work/2", photos)
    with pytest.raises(ModelError, match="contains no COLMAP model"):
        registered_photos(tmp_path / "work/3", photos)
    with pytest.raises(ModelError, match="is not a folder"):
        registered_photos(tmp_path / "nothing", photos)
