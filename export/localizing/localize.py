"""The command `keras-retrieval localize INDEX MODEL QUERY.jpg`, which finds where in a COLMAP model photos were taken.

As in hloc (Sarlin et al., CVPR 2019): retrieval finds the photos of the model that are most similar to a query, local
features of the query are matched with their 3D points, and COLMAP solves for the pose.
"""

from collections.abc import Sequence

from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.localization.in_models import Localizer, LocalizerSettings, open_models
from keras_retrieval.pipelines.localization.queries import list_queries
from keras_retrieval.pipelines.localization.query_features import query_features
from keras_retrieval.pipelines.localization.results import Localized, write_results
from keras_retrieval.pipelines.sfm.colmap import load_colmap

from keras_retrieval.errors import printable

from .described import open_described
from .options import LocalizeOptions


@takes(LocalizeOptions)
def localize(options: LocalizeOptions) -> list[Localized]:
    """Finds the camera poses of query photos in the coordinates of a COLMAP model, by retrieval and local features.

    For each query, the --neighbours most similar registered photos of the model are chosen by their descriptors. The
    features of the query are matched with those features of the photos that observe 3D points. COLMAP's LO-RANSAC
    estimates the pose from these matches, and refines it, together with the focal length and the distortion unless the
    camera is given. If there are several models, the pose with most inliers counts. A query that cannot be read or
    localised costs only itself.

    Returns:
        One result per query, in the order of the queries.

    Raises:
        ArgumentError: an option is out of range, or no query can be read.
        FolderError, CollectionError: INDEX is not an index, nor a folder of `reconstruct` or `extract`, or is damaged.
        PhotoFolderError: a folder of queries contains no photo.
        LocalizationError: there is no query, INDEX describes no photo of the model, or the database is missing or not
            that of the model.
        ModelError: there is no model, or a model is damaged.
        ReconstructionError: the database is damaged.
        MissingExtraError: COLMAP is not installed.
    """
    load_colmap()
    queries = list_queries(options.queries)
    described = open_described(options.index) if options.neighbours else None
    settings = LocalizerSettings(
        options.neighbours,
        options.camera,
        options.min_inliers,
        options.error,
        options.seed,
        options.network,
        options.runtime,
    )
    localizer = Localizer(open_models(options.model, options.database, options.index, described), settings)
    with query_features(list(queries), localizer.extraction, options.accept_truncated) as (left_out, features):
        found = localizer.localize(queries, left_out, features)
    _print(found)
    if options.output is not None:
        write_results(options.output, found)
        print(f"poses: {options.output.resolve()}")
    return found


def _print(found: Sequence[Localized]) -> None:
    for one in found:
        photo = printable(str(one.photo))
        if one.pose is None:
            print(f"{photo}: not localised: {one.reason}")
            continue
        x, y, z = one.pose.centre
        print(f"{photo}: {x:.4f} {y:.4f} {z:.4f}, {one.pose.inliers:,} of {one.pose.matches:,} matches")
    print(f"{sum(one.pose is not None for one in found):,} of {len(found):,} photos localised")
