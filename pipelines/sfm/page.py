"""Makes the HTML page of a reconstruction, which shows the counts, the photos and the 3D models of each cluster."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from ..pages.render import data_url, render, visible
from ..pages.viewer import viewer_script
from ..photos.reader import PhotoError, read_photo
from .colmap import colmap_name
from .plan_view import plan_view
from .report import points_and_error
from .scene import for_viewer, read_scene

THUMBNAIL = 168  # pixels of the longer side
MOST_CLUSTERS = 200
MOST_PHOTOS = 60  # per cluster
MOST_NAMES = 40  # names of photos left out, per reason
MOST_POINTS = 100_000  # 3D points per model
MOST_POINTS_IN_ALL = 300_000  # 3D points per page; a point takes 20 bytes


def page(report: Mapping[str, Any], work: Path) -> str:
    """Renders the HTML page of a reconstruction.

    Args:
        report: the report from `make_report`, with the additional entries "photos" (the folder of the photos), "rounds"
            (from `match_in_rounds`) and "seconds" (the duration of each stage).
        work: the folder of the reconstruction, with the models and the images.

    Returns:
        A self-contained HTML document. In browsers without WebGL, it shows a plan view of each model instead of the 3D
        viewer.
    """
    clusters = report["clusters"]
    viewer = viewer_script()
    most = _most_points([model["points"] for cluster in clusters[:MOST_CLUSTERS] for model in cluster["models"]])
    scenes: list[dict[str, Any]] = []
    return render(
        "reconstruction.html.j2",
        kind="reconstruction",
        title="Reconstruction",
        facts=_facts(report),
        clusters=[_cluster(number, report, work, most, scenes) for number in range(len(clusters))],
        hidden=max(0, len(clusters) - MOST_CLUSTERS),
        nowhere=_nowhere(report),
        scenes=scenes,
        viewer=viewer,
    )


def _most_points(counts: Sequence[int]) -> int:
    """Computes the largest number of points per model for which a page has at most `MOST_POINTS_IN_ALL` points."""
    most, left = MOST_POINTS, MOST_POINTS_IN_ALL
    for place, count in enumerate(sorted(counts)):
        share = left // (len(counts) - place)
        if count > share:
            return min(most, share)
        left -= count
    return most


def _facts(report: Mapping[str, Any]) -> list[str]:
    pairs, options = report["pairs"], report["options"]
    placed = sum(len(cluster["photos"]) for cluster in report["clusters"])
    proposed = ", ".join(f"{entry['pairs']} by {entry['by']}" for entry in report["rounds"] if entry["pairs"])
    seconds = sum(report["seconds"].values())
    return [
        f"{placed} of {report['photo_count']} photos in {len(report['clusters'])} clusters",
        f"{pairs['tried']:,} of {pairs['all']:,} pairs tried ({pairs['tried'] / max(1, pairs['all']):.1%})",
        f"{pairs['verified']:,} verified",
        f"candidates by {options['pairs']}, k = {options['neighbours']}: {proposed}",
        f"{seconds:,.0f} s in finished runs",
    ]


def _cluster(
    number: int, report: Mapping[str, Any], work: Path, most: int, scenes: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns the template's values for a cluster, and appends the cluster's 3D models to `scenes`."""
    cluster = report["clusters"][number]
    points, error = points_and_error(cluster)
    photos, shown = cluster["photos"], number < MOST_CLUSTERS
    numbers = {name: place for place, name in enumerate(photos[:MOST_PHOTOS])}
    return {
        "number": number,
        "shown": shown,
        "photo_count": len(photos),
        "left_out_count": len(cluster["left_out"]),
        "points": f"{points:,}",
        "error": f"{error:.2f}",
        "same": [pair[0] + pair[1] - number for pair in report["same_object"] if number in pair],
        "models": [_model(model, work, most, numbers, scenes) if shown else {} for model in cluster["models"]],
        "photos": [{"name": name, "url": _thumbnail(name, work)} for name in numbers] if shown else [],
        "more": max(0, len(photos) - MOST_PHOTOS),
        "left_out": _left_out(cluster["left_out"]),
    }


def _model(
    model: Mapping[str, Any], work: Path, most: int, photos: Mapping[str, int], scenes: list[dict[str, Any]]
) -> dict[str, Any]:
    scene = read_scene(work / model["folder"])
    scenes.append(for_viewer(scene, most, photos))
    for camera in scenes[-1]["cameras"]:
        camera["name"] = visible(camera["name"])
    count = len(scene.points)
    return {
        "scene": len(scenes) - 1,
        "folder": model["folder"],
        "cameras": len(scene.names),
        "points": f"{count:,}",
        "thinned": f"{most:,}" if count > most else "",
        "plan": data_url(plan_view(scene), "PNG"),
    }


def _thumbnail(name: str, work: Path) -> str:
    """Returns a thumbnail as a data URL, or "" if the photo cannot be read."""
    try:
        return data_url(Image.fromarray(read_photo(work / "images" / colmap_name(name), size=THUMBNAIL)))
    except PhotoError:
        return ""


def _nowhere(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the photos that are left out and not listed with a cluster, grouped by reason."""
    shown = {name for cluster in report["clusters"] for name in cluster["left_out"]}
    return _left_out({name: reason for name, reason in report["left_out"].items() if name not in shown})


def _left_out(reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    """Groups the names of photos that are left out by reason."""
    by_reason = sorted(reasons.items(), key=lambda item: (item[1], item[0]))
    groups = [(reason, [name for name, _ in group]) for reason, group in groupby(by_reason, key=lambda item: item[1])]
    return [
        {
            "text": reason,
            "count": len(names),
            "names": names[:MOST_NAMES],
            "more": max(0, len(names) - MOST_NAMES),
        }
        for reason, names in groups
    ]
