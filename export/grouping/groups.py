"""Groups the photos of a collection by object: `keras-retrieval groups INDEX OUTPUT --min-probability 0.99`."""

from pathlib import Path

from keras_retrieval.pipelines.command.colmap import require_colmap
from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.files.durable import check_outside, write_file
from keras_retrieval.pipelines.files.remote import address_of, named, place_text

from keras_retrieval.errors import ArgumentError

from ..index_contract.answers import Answers
from ..index_contract.calibration import FILE, VERIFIED, check_local
from ..index_contract.errors import CalibrationError
from ..indexes.calibrated import extractor_of, open_calibration
from ..indexes.described_alike import describe_alike
from ..indexes.index import index as make_index
from ..indexes.open_index import open_index, place_to_read
from ..indexes.verified_search import FeatureSource, local_features_if_any
from .linking import group
from .options import GroupsOptions
from .pairs import likely_pairs
from .result import CSV, JSON, OBJECTS, PAGE, Group, as_groups, groups_page, remove_links, write_groups, write_links


@takes(GroupsOptions)
def groups(options: GroupsOptions) -> list[Group]:
    """Groups the photos of a collection by object.

    Each photo is compared with its nearest neighbours, by descriptors and, if the index has them, by local features.
    The calibration of the index (`calibrate`) gives the probability that a pair shows the same object; pairs with at
    least --min-probability link photos. So that no chain joins different objects through a photo that shows two of
    them, two groups are joined only by two pairs without a common photo, and a photo joins a group of several photos
    only by pairs with two of them. What is not sure enough stays apart.

    OUTPUT contains groups.json (the groups and their pairs), groups.csv (the columns photo and object; photos in no
    group have no object), the page groups.html and, with --links, the folder objects of links to the photos.

    With --like, COLLECTION is a folder of photos, which are described as those of another index were, and judged by its
    calibration. Their descriptors and index are kept in OUTPUT/work, so that the same command continues.

    Returns:
        The groups of at least two photos, the largest first.

    Raises:
        CalibrationError: there is no calibration, it is of another network, or it cannot promise this probability.
        ArgumentError: an option is out of range, or two do not fit together.
        RemoteError: the storage of an index or of photos at an address does not answer, or refuses.
        FolderError, CollectionError: the index or its local features cannot be opened, with --links, OUTPUT is
            inside the folder of photos, or its folder objects has files that this step did not write.
        PhotoFolderError: no photo can be read.
        OSError: a file cannot be written.
    """
    place, photos, calibration = options.collection, options.photos, options.calibration
    if options.like is not None:
        if options.links:
            check_outside(options.output, Path(options.collection))  # before the work
        place, photos = _described(options, options.like), Path(options.collection)
        calibration = calibration or Path(place_to_read(options.like)) / FILE
    index = open_index(place_to_read(place))
    folder = photos or Path(index.facts["photos"])
    if options.links:
        if not folder.is_dir():
            absent = "is an address" if address_of(folder) else "does not exist"
            raise ArgumentError(
                f"--links needs the photos, and {named(folder)} {absent}: name "
                "their folder on this machine with --photos"
            )
        check_outside(options.output, folder)
    answers = open_calibration(index, place, calibration, options.min_probability, label="--min-probability")
    assert answers is not None, "a probability above 0 needs a calibration"
    local = _local_features(options, place, answers)
    if local is not None:
        check_local(answers.calibration, extractor_of(local.facts), str(calibration or place))
    pairs = likely_pairs(index, answers, options.min_probability, options.neighbours, local)
    found = as_groups(group(pairs), pairs)
    names = list(index.names)
    options.output.mkdir(parents=True, exist_ok=True)
    facts = _facts(options, found, len(names), compared=local is not None)
    about = {"photos": place_text(folder), "min_probability": options.min_probability, "count": len(names)}
    reading = {key: index.facts[key] for key in ("exif", "max_pixels")}
    shown = groups_page(found, folder, facts, reading)  # reads photos: before the first file is replaced
    write_groups(options.output, found, names, about)
    write_file(options.output / PAGE, shown)
    _print(options, found, facts, folder)
    return found


def _described(options: GroupsOptions, like: str) -> str:
    """Describes the photos of a folder as those of an index were, and makes an index of them."""
    index = open_index(place_to_read(like))
    open_calibration(
        index, like, options.calibration, options.min_probability, label="--min-probability"
    )  # before the work
    work = options.output / "work"
    local = local_features_if_any(like, None) if options.verify else None
    described = describe_alike(
        index.facts,
        None if local is None else local.facts,
        Path(options.collection),
        work / "described",
        options.model,
        runtime=options.runtime,
        **options.engine_passed_on,
    )
    make_index(described, str(work / "index"), replace=True)
    return str(work / "index")


def _local_features(options: GroupsOptions, place: str, answers: Answers) -> FeatureSource | None:
    if not options.verify or VERIFIED not in answers.calibration.curves:
        if options.local is not None:
            raise CalibrationError(
                f"--local {options.local}: the calibration of {place} was learned without local features: calibrate "
                "with the same --local, or leave it out"
            )
        return None
    local = local_features_if_any(place, options.local)
    if local is not None:
        require_colmap()
    return local


def _facts(options: GroupsOptions, found: list[Group], photos: int, *, compared: bool) -> list[str]:
    grouped = sum(len(one.names) for one in found)
    noun = "group" if len(found) == 1 else "groups"
    return [
        f"{grouped:,} of {photos:,} photos in {len(found):,} {noun}",
        f"linked by pairs that show the same object with a probability of at least {options.min_probability:.4g}",
        "compared by descriptors and local features" if compared else "compared by descriptors only",
    ]


def _print(options: GroupsOptions, found: list[Group], facts: list[str], photos: Path) -> None:
    print(", ".join(facts))
    if options.links:
        print(f"{options.output / OBJECTS}: {write_links(options.output, found, photos):,} links")
    else:
        remove_links(options.output)
    print(f"{options.output / JSON}, {options.output / CSV}")
    print(f"page: {(options.output / PAGE).resolve()}")
