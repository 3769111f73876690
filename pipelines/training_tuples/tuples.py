"""Training tuples from 3D models or any other source: `keras-retrieval tuples SOURCE tuples.npz`.

SOURCE is one of

- a folder that `reconstruct` made, with report.json;
- a folder that holds COLMAP models made elsewhere (points3D.bin or .txt), each a cluster;
- a folder with a folder of photos for each object;
- a folder that `clean` made of such a one: the photos that it kept;
- a folder of photos with UTM positions in their names, @east@north@...@.jpg;
- with --manifold a folder of descriptors, from `extract`;
- a published retrieval-SfM-30k or -120k pickle, or its -whiten file, ending in .pkl;
- a .csv file with the columns photo, east, north (metres) or photo, latitude, longitude (degrees);
- a .csv file with the columns query, positive: names of photos.

tuples.npz is read by `numpy.load("tuples.npz", allow_pickle=False)`. N photos, Q pairs, M links:

| field | type | what |
|---|---|---|
| version | int64 | of this layout: 1 |
| images | (N,) text | names of the photos below the photos' folder, with / between their parts |
| cluster | (N,) int64 | the cluster of each photo; photos of other clusters are its negatives |
| qidxs | (Q,) int64 | the query of each pair, an index into images |
| pidxs | (Q,) int64 | the positive of each pair, of the query's cluster or of one linked to it |
| same_object | (M, 2) int64 | links: clusters that may show the same object and are no negatives of each other |
| validation | (N,) bool | photos set aside for validation, whole objects; a pair belongs where its query does |
| about | text | JSON: the source, the options, the counts |

A file may list negatives, which are then the only ones:

| field | type | what |
|---|---|---|
| negatives | (N, n) int32 | the photos that may be negatives of each; -1 fills up |

From 3D models there are besides:

| field | type | what |
|---|---|---|
| shared | (Q,) float32 | the share of the query's 3D points that the positive sees, too |
| scale_change | (Q,) float32 | the median ratio, 1 or more, at which the two see the points they share |
| camera_neighbours | (N, k) int32 | photos of the same model by the distance of their cameras; -1 fills up |
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ..descriptors.folder import read_descriptors
from ..sfm.descriptors import read_described
from .file import Choice, TuplesError, check, split, statistics, write_tuples
from .from_manifolds import ANCHORS, Manifold, from_descriptors
from .positives import RULES, Rule
from .sources import photos_of, read_source

POSITIVES = 3  # of a query, where not all count


def tuples(
    source: Annotated[
        Path, typer.Argument(help="What `reconstruct`, `clean` or `extract` made, COLMAP models, folders, .pkl, .csv.")
    ],
    output: Annotated[Path, typer.Argument(help="The file to write, such as tuples.npz.")],
    *,
    photos: Annotated[Path | None, typer.Option(help="Folder of the photos, each of which must be there.")] = None,
    rule: Annotated[str, typer.Option(help="Positives of 3D models: m1, m2 or m3 (Radenovic et al. 2016).")] = "m3",
    positives: Annotated[
        int | None,
        typer.Option(help="Positives of each query at most; if not given 3, of positions and manifolds all."),
    ] = None,
    cameras: Annotated[int, typer.Option(help="Nearest cameras that are candidates.")] = 100,
    shared: Annotated[float, typer.Option(help="m3: least share of the query's points in a positive.")] = 0.2,
    scale_change: Annotated[float, typer.Option(help="m3: largest change of scale to a positive.")] = 1.5,
    descriptors: Annotated[Path | None, typer.Option(help="m1: folder that `extract` made of the photos.")] = None,
    radius: Annotated[float, typer.Option(help="Positions: metres to a positive at most.")] = 10.0,
    apart: Annotated[float, typer.Option(help="Positions: metres to a negative at least.")] = 25.0,
    manifold: Annotated[bool, typer.Option(help="From descriptors alone (Iscen et al. 2018).")] = False,
    neighbours: Annotated[int, typer.Option(help="Manifold: nearest photos of each in the graph.")] = 30,
    loose: Annotated[
        int | None,
        typer.Option(
            help="Manifold: the same of a graph that must not lead to negatives; as --neighbours if not given."
        ),
    ] = None,
    alike: Annotated[
        int, typer.Option(help="Manifold: nearest photos that may be positives; fewer than an object has.")
    ] = 50,
    unlike: Annotated[
        int, typer.Option(help="Manifold: nearest photos that may be negatives; more than an object has.")
    ] = 50,
    anchors: Annotated[
        str, typer.Option(help=f"Manifold: queries, {' or '.join(ANCHORS)}; the maxima of the graph, as published.")
    ] = "maxima",
    validation: Annotated[float, typer.Option(help="Share of the photos, in whole objects, set aside.")] = 0.1,
    negatives: Annotated[int, typer.Option(help="Negatives a query will need, each of another cluster.")] = 5,
    seed: Annotated[int, typer.Option(help="Of random choices.")] = 0,
) -> Path:
    """Makes tuples.npz: photos in clusters, queries with their positives, a split by object.

    Returns:
        `output`.

    Raises:
        TuplesError: the source is unknown or wrong somewhere, or has too few clusters.
        ValueError: an option is out of range.
        OSError: a file cannot be read.
    """
    _check_options(rule, positives, cameras, shared, scale_change, radius, apart, validation, negatives, seed)
    if output.suffix != ".npz":
        raise ValueError(f"{output}: tuples are saved with the ending .npz")
    graph = Manifold(neighbours, loose, alike, unlike, anchors)
    if manifold:
        made = from_descriptors(source, graph, positives, negatives)
    else:
        how = Rule(rule, cameras, shared, scale_change, positives or POSITIVES)
        rows = _rows(source, descriptors) if rule == "m1" else {}
        made = read_source(source, Choice(how, positives, rows, radius, apart, seed))
        photos = photos or photos_of(source)
    check(made, photos)
    made = split(made, validation, negatives, seed)
    counts = statistics(made)
    options = {"rule": rule, "positives": positives, "cameras": cameras, "shared": shared, "scale_change": scale_change}
    options |= {"radius": radius, "apart": apart, "validation": validation, "negatives": negatives, "seed": seed}
    options |= asdict(graph) if manifold else {}
    write_tuples(output, made, {"source": str(source.resolve()), "options": options, "counts": counts})
    _say(output, counts, photos)
    return output


def _check_options(
    rule: str,
    positives: int | None,
    cameras: int,
    shared: float,
    scale_change: float,
    radius: float,
    apart: float,
    validation: float,
    negatives: int,
    seed: int,
) -> None:
    if rule not in RULES:
        raise ValueError(f"--rule {rule}: known are {', '.join(RULES)}")
    if min(1 if positives is None else positives, cameras) < 1 or negatives < 0:
        raise ValueError("--positives and --cameras are at least 1, and --negatives at least 0")
    if not (0 < shared <= 1 and scale_change >= 1 and 0 <= validation < 1):
        raise ValueError("--shared lies in 0..1, --scale-change is at least 1, --validation lies in 0..1")
    if seed < 0:
        raise ValueError(f"--seed {seed}: it is 0 or more")
    if not 0 < radius <= apart:
        raise ValueError(f"--radius {radius} must lie above 0 and not above --apart {apart}")


def _rows(source: Path, descriptors: Path | None) -> dict[str, np.ndarray]:
    """Descriptors for rule m1: of `extract`, or those that chose the candidate pairs."""
    if descriptors is not None:
        shards, names, _ = read_descriptors(descriptors)
        return dict(zip(names, np.concatenate(shards), strict=True))
    folders = sorted(source.glob("descriptors-*"), key=lambda folder: folder.stat().st_mtime) if source.is_dir() else []
    if not folders:
        raise TuplesError(f"rule m1 needs descriptors, and {source} has none: give --descriptors, or another --rule")
    return read_described(folders[-1])


def _say(output: Path, counts: dict[str, Any], photos: Path | None) -> None:
    for name, facts in counts.items():
        print(
            f"{name}: {facts['photos']:,} photos in {facts['clusters']:,} clusters, {facts['queries']:,} queries "
            f"with {facts['pairs']:,} positives, {facts['pairs_per_query']} each"
        )
    if not counts["validation"]["photos"]:
        print("nothing is set aside for validation")
    print(f"{output}{'' if photos else ' (whether the photos are there was not checked: --photos)'}")
