"""Makes and reads the report of a reconstruction, report.json: clusters, models, and why photos are left out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_retrieval.errors import printable

from ..files.components import connected
from ..files.durable import FolderError
from .clusters import merge_models, same_objects
from .colmap import Pair
from .mapping import Model
from .options import ReconstructOptions

REPORT_VERSION = 1

Report = dict[str, Any]


def make_report(
    work: Path,
    names: Sequence[str],
    left_out: Mapping[str, str],
    inliers: Mapping[Pair, int],
    models: Sequence[Model],
    options: ReconstructOptions,
) -> Report:
    """Makes the report of a reconstruction from the results of its stages.

    Args:
        work: the folder of the reconstruction.
        names: the names of all photos.
        left_out: maps each photo that cannot be read or has no features to the reason.
        inliers: maps each pair that has been matched to its number of inliers, which are matches consistent with one
            geometry. Pairs with a photo that is not in `names` are ignored.
        models: the models of all groups of photos.
        options: the options of the run.

    Returns:
        A dict, serialisable as JSON, with these entries: "version"; "options"; "pairs", the numbers of "all" possible,
        "tried" (matched) and "verified" pairs; "photo_count"; "clusters", the largest first, each with its "photos",
        its "models" (with "folder", "photos", "points", "observations" and "error") and "left_out", the photos outside
        every cluster whose verified pair with the most inliers is with this cluster; "same_object", pairs of numbers of
        clusters that may show the same object; and "left_out" for all photos outside every cluster. Both "left_out" map
        the name of a photo to the reason.
    """
    present = set(names)
    tried = {pair: count for pair, count in inliers.items() if present.issuperset(pair)}
    clusters = sorted(
        ([models[number] for number in numbers] for numbers in merge_models([model.photos for model in models])),
        key=lambda some: (-len(_photos(some)), _photos(some)),
    )
    photos = [_photos(some) for some in clusters]
    reasons = dict(left_out) | _reasons(names, left_out, tried, photos, options)
    near = _nearest_cluster(reasons, tried, photos, options.min_inliers)
    return {
        "version": REPORT_VERSION,
        "options": options.facts(arguments=False),
        "pairs": {
            "all": len(names) * (len(names) - 1) // 2,
            "tried": len(tried),
            "verified": sum(count >= options.min_inliers for count in tried.values()),
        },
        "photo_count": len(names),
        "clusters": [
            {
                "photos": photos[number],
                "models": [_facts(model, work) for model in some],
                "left_out": {name: reasons[name] for name in reasons if near.get(name) == number},
            }
            for number, some in enumerate(clusters)
        ],
        "same_object": same_objects(photos, tried),
        "left_out": reasons,
    }


def read_report(content: Any, path: Path) -> Report:
    """Checks that the content of a JSON file is the report of a reconstruction.

    Args:
        content: the parsed JSON.
        path: the path of the file, which is used in error messages only.

    Returns:
        The argument `content`.

    Raises:
        FolderError: the content is not a report, or was written by a newer version.
    """
    if not isinstance(content, dict) or not isinstance(content.get("version"), int) or "clusters" not in content:
        raise FolderError(f"{path} is not the report of a reconstruction: `keras-retrieval reconstruct` writes one")
    if content["version"] > REPORT_VERSION:
        raise FolderError(
            f"{path} has version {content['version']} and this code reads up to {REPORT_VERSION}: "
            "update with pip install -U keras-retrieval"
        )
    return content


def summary(report: Report) -> str:
    """Returns a summary of a report as text: the numbers of pairs and photos, and one line per cluster."""
    pairs, clusters = report["pairs"], report["clusters"]
    placed = sum(len(cluster["photos"]) for cluster in clusters)
    share = pairs["tried"] / max(1, pairs["all"])
    lines = [
        f"{pairs['tried']:,} of {pairs['all']:,} pairs tried ({share:.1%}), {pairs['verified']:,} verified",
        f"{placed:,} of {report['photo_count']:,} photos placed in {len(clusters)} clusters:",
        "cluster  photos  models  points   error  left out  first photo",
    ]
    for number, cluster in enumerate(clusters):
        points, error = points_and_error(cluster)
        lines.append(
            f"{number:7}  {len(cluster['photos']):6}  {len(cluster['models']):6}  {points:6,}  {error:4.2f}px"
            f"  {len(cluster['left_out']):8}  {printable(cluster['photos'][0])}"
        )
    lines += [f"clusters {one} and {other} may show the same object" for one, other in report["same_object"]]
    return "\n".join(lines)


def points_and_error(cluster: Mapping[str, Any]) -> tuple[int, float]:
    """Returns the number of 3D points of a cluster, and its mean reprojection error over all observations.

    Args:
        cluster: an entry of "clusters" in a report.

    Returns:
        The number of points in all models of the cluster, and the error in pixels.
    """
    models = cluster["models"]
    observations = sum(model["observations"] for model in models)
    error = sum(model["error"] * model["observations"] for model in models) / max(1, observations)
    return sum(model["points"] for model in models), error


def _photos(models: Sequence[Model]) -> list[str]:
    return sorted({photo for model in models for photo in model.photos})


def _facts(model: Model, work: Path) -> dict[str, Any]:
    return {
        "folder": model.folder.relative_to(work).as_posix(),
        "photos": model.photos,
        "points": model.points,
        "observations": model.observations,
        "error": model.error,
    }


def _reasons(
    names: Sequence[str],
    left_out: Mapping[str, str],
    tried: Mapping[Pair, int],
    clusters: Sequence[Sequence[str]],
    options: ReconstructOptions,
) -> dict[str, str]:
    """Maps each photo that was matched and is in no cluster to the reason."""
    placed = {photo for photos in clusters for photo in photos}
    verified = [pair for pair, count in tried.items() if count >= options.min_inliers]
    size = {name: len(group) for group in connected(names, verified) for name in group}
    count_of = dict.fromkeys(names, 0)
    for pair in tried:
        for name in pair:
            count_of[name] += 1
    reasons = {}
    for name in names:
        if name in placed or name in left_out:
            continue
        if size[name] == 1:
            reasons[name] = f"none of its {count_of[name]} pairs was verified"
        elif size[name] < options.min_photos:
            reasons[name] = f"its group has {size[name]} photos, and {options.min_photos} are needed"
        else:
            reasons[name] = "COLMAP could not place it in a model of its group"
    return reasons


def _nearest_cluster(
    reasons: Mapping[str, str], tried: Mapping[Pair, int], clusters: Sequence[Sequence[str]], least: int
) -> dict[str, int]:
    """Maps each photo in no cluster to the cluster with which it has the verified pair with the most inliers."""
    cluster_of = {photo: number for number, photos in enumerate(clusters) for photo in photos}
    strongest: dict[str, tuple[int, int]] = {}
    for (one, other), count in tried.items():
        for name, neighbour in ((one, other), (other, one)):
            if count >= least and name in reasons and neighbour in cluster_of:
                strongest[name] = max(strongest.get(name, (0, 0)), (count, cluster_of[neighbour]))
    return {name: number for name, (_, number) in strongest.items()}
