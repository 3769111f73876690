"""The step `tuples`: training tuples from 3D models or another source, `keras-retrieval tuples SOURCE tuples.npz`."""

from pathlib import Path
from typing import Any

from ..command.options import takes
from ..files.remote import place_text
from .checks import check
from .copies import MOST_OBJECTS, Separated, copy_groups, separate_copies
from .data import statistics, without
from .file import write_tuples
from .from_manifolds import described_photos, from_descriptors
from .from_models import descriptors_for_m1
from .options import TuplesOptions
from .sources import photos_of, read_source
from .split import split
from .unused_options import MANIFOLDS, POSITIVES, refuse_unused


@takes(TuplesOptions)
def tuples(options: TuplesOptions) -> Path:
    """Makes training tuples: photos in clusters, queries with their positives, and a validation split by object.

    SOURCE is one of

    - a folder that `reconstruct` made, with report.json
    - a folder with COLMAP models (points3D.bin or .txt) by other programs; each model is a cluster
    - a folder that `clean` made; only the photos that `clean` kept are used
    - a folder with sub-folders of photos for objects; --objects says which folders are one object
    - a folder of photos with UTM positions in their names, @east@north@zone@letter@...@.jpg
    - with --positions exif or a table, a folder of photos with GPS positions; see the step `positions`
    - the folder of Mapillary SLS (train_val/CITY/query and database with their tables) or of GSV-Cities (Images and
      Dataframes), as their archives unpack
    - with --manifold, a folder of descriptors that `extract` made
    - a published retrieval-SfM-30k or -120k file, or its -whiten file, ending in .pkl
    - a .csv file with the columns photo, east, north (metres, and the UTM zone if there are several) or photo,
      latitude, longitude (degrees), and optionally heading, as the step `positions` writes it
    - a .csv file with the columns query, positive, which contain names of photos

    Photos and descriptors can be at an address such as s3://BUCKET/FOLDER. With `photos`, rows of a .csv file whose
    photos do not exist are left out and reported.

    OUTPUT is an .npz file without pickles, whose fields the module `training_tuples.file` describes.

    Returns:
        The path of the file, `options.output`.

    Raises:
        PositionError: the name of a photo contains no position, or the positions of photos contradict each other.
        TuplesError: the source is of an unknown kind, contains an invalid entry, or has too few clusters for the number
            of negatives.
        ArgumentError: an option is out of range, or does not fit the source.
        RemoteError: the storage of an address does not answer, or refuses.
        PhotoFolderError: the folders of photos do not show which photos are of one object, and --objects is not given.
        OSError: a file cannot be read.
    """
    photos = options.photos
    if options.manifold:
        refuse_unused(options, "descriptors", MANIFOLDS, POSITIVES)
        compared = photos or described_photos(options.source)
        copies = copy_groups(options, compared)
        made = from_descriptors(options, copies)
    else:
        compared = photos = photos or photos_of(options.source)
        copies = copy_groups(options, compared)
        descriptors = descriptors_for_m1(options.source, options.descriptors) if options.rule == "m1" else {}
        made = read_source(options, descriptors, copies)
    missing = check(made, photos, skip_missing=options.missing == "skip")
    if missing.any():
        made = without(made, missing)
    made, separated = separate_copies(made, copies(made.images))
    _print_copies(separated, options, compared is not None)
    check(made, None)
    made = split(made, options.validation, options.negatives, options.seed)
    counts = statistics(made)
    about = {"source": place_text(options.source), "options": options.facts(arguments=False), "counts": counts}
    write_tuples(options.output, made, about)
    _print(options, counts, checked=photos is not None)
    return options.output


def _print_copies(separated: Separated, options: TuplesOptions, compared: bool) -> None:
    if separated.photos:
        print(
            f"{separated.photos:,} photos are copies of {separated.groups:,}, and neither positives nor negatives of "
            f"each other: {separated.links:,} links between clusters added"
        )
    elif options.copies and (compared or options.duplicates):
        print("no photo has a copy")
    elif options.copies:
        print("not searched for copies of photos: give --photos")
    if separated.everywhere:
        print(
            f"{separated.everywhere:,} photos are in no pair, because their copies are in more than {MOST_OBJECTS} "
            "clusters, as placeholders are"
        )


def _print(options: TuplesOptions, counts: dict[str, Any], checked: bool) -> None:
    for name, count in counts.items():
        print(
            f"{name}: {count['photos']:,} photos in {count['clusters']:,} clusters, {count['queries']:,} queries "
            f"with {count['pairs']:,} positives, {count['pairs_per_query']} per query"
        )
    if not counts["validation"]["photos"]:
        few = f", which needs two objects with positives, and left are {options.negatives + 1} clusters and a positive"
        print(f"no photos are set aside for validation{few if options.validation else ''}")
    print(f"{options.output}{'' if checked else ' (not checked whether the photos exist: give --photos)'}")
