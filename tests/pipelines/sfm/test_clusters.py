"""Models in clusters, and clusters that may show one object."""

from pipelines.sfm.clusters import merge_models, same_objects


def test_models_that_share_a_photo_are_one_cluster():
    assert merge_models([["a", "b"], ["c"], ["b", "d"], ["e"], ["d", "c"]]) == [[0, 1, 2, 4], [3]]


def test_clusters_of_one_castle_are_no_negatives():
    inliers = {("a", "b"): 80, ("b", "x"): 20, ("x", "c"): 20, ("c", "d"): 90, ("e", "f"): 70, ("d", "e"): 14}
    assert same_objects([["a", "b"], ["c", "d"], ["e", "f"]], inliers) == [(0, 1)]
    inliers["d", "e"] = 15
    assert same_objects([["a", "b"], ["c", "d"], ["e", "f"]], inliers) == [(0, 1), (0, 2), (1, 2)]
