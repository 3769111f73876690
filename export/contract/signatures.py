"""The interface of an exported network: names of signatures, inputs and outputs, and the codes of `status`.

| signature | input | outputs |
|---|---|---|
| serving_default | image_bytes (B,) string | descriptors (B, D) float32, status (B,) int32 |
| images | images (B, H, W, 3) float32, RGB 0..255 | descriptors (B, D) float32, status (B,) int32 |
| images_uint8 | images (B, H, W, 3) uint8, RGB | descriptors (B, D) float32, status (B,) int32 |
| embed_regions | image_bytes (B,) string | regions (B, R, d), boxes (B, R, 4) float32, status (B,) int32 |
| search | image_bytes (B,), k int32, boxes (B, 4), where string | names, scores (B, K), status (B,), hit_boxes |

`image_bytes` are the contents of photo files. B may be 0. Photos and pixels that are smaller than the network needs are
enlarged by repeating their last row and column; pixels of which H or W is 0 have the status 4.

`embed_regions` exists only if the network pools regions (R-MAC). R is the same for all photos; a photo with fewer
regions has rows of zeros in `regions` and `boxes`. A row of `boxes` is left, top, right, bottom as fractions of the
sides of the upright photo.

`search` exists only if the network is served with an index (`keras-retrieval serve --index`) or was exported with one
(`keras-retrieval export-saved-model --index`). `k`, the number of neighbours, is one number or one number per photo;
its default is 10. `boxes` is optional: the part of each photo to search for, as left, top, right, bottom in pixels of
the upright photo, where four zeros select the whole photo. `where` is optional: conditions on the columns of the index
that neighbours must satisfy, as `search --where` takes them, several on lines of their own: one text, or one per photo.
"" is no condition. The outputs `names` (string) and `scores` (float32) have one
row per photo and K columns, where K is the largest number of neighbours that were found for a photo. Neighbours are
sorted by descending score; rows with fewer neighbours are padded with the name "" and the score -infinity. The output
`hit_boxes` (B, K, 4) float32 exists only if the index has crops: the box of the best crop of each neighbour, as left,
top, right, bottom in pixels of its upright photo; padding is zero.

With `keras-retrieval serve --verify N`, the first N neighbours of each photo are verified by local features: those that
agree with the photo on a view come first, and the scores are no longer in descending order. Three outputs are added:
`inliers` (B, K) int32, the number of matched points that agree on the view, -1 for a neighbour that was not verified
and for padding; and their boxes as `hit_boxes` has them, `match_boxes` (B, K, 4) float32 in the neighbour and
`query_boxes` (B, K, 4) float32 in the photo of the request, zeros without inliers.

If the index is calibrated (`keras-retrieval calibrate`), there is an output `probabilities` (B, K) float32: the
probability that a neighbour shows the object of the photo, 0 for padding. With `serve --min-probability P`, only
neighbours with at least this probability are given: a row that is only padding means "no match".

A version that was exported with its index has no inputs `boxes` and `where`. It has an optional input `leaves`, ()
int32, instead: the number of leaves of the index's tree to search. The default, 0, searches the number of leaves to
which the index was tuned. Only servers that contain ScaNN's TensorFlow operations can load such a version.
"""

from pathlib import Path

import numpy as np

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

SERVING_DEFAULT = "serving_default"
IMAGES = "images"
IMAGES_UINT8 = "images_uint8"
EMBED_REGIONS = "embed_regions"
SEARCH = "search"

IMAGE_BYTES = "image_bytes"
PIXELS = "images"
"""Name of the input of the signatures `images` and `images_uint8`."""

DESCRIPTORS = "descriptors"
STATUS = "status"
REGIONS = "regions"
BOXES = "boxes"
NEIGHBOURS = "k"
LEAVES = "leaves"
WHERE = "where"
NAMES = "names"
SCORES = "scores"
HIT_BOXES = "hit_boxes"
INLIERS = "inliers"
MATCH_BOXES = "match_boxes"
QUERY_BOXES = "query_boxes"
PROBABILITIES = "probabilities"

DEFAULT_K, MAX_K = 10, 10_000
NO_SCORE = -np.inf
"""Score that pads the rows of photos with fewer than K neighbours in the output of `search`."""
NOT_VERIFIED = -1
"""Number of inliers of neighbours that were not verified, and of padding."""

WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"
"""Path of the file of warm-up requests, relative to the folder of a version."""

OK, UNKNOWN_FORMAT, DAMAGED, TOO_MANY_PIXELS, NO_DESCRIPTOR, BAD_BOX = range(6)

REASONS = {
    UNKNOWN_FORMAT: "not a picture in a supported format (JPEG, PNG, GIF, BMP; WebP unless exported with --no-webp)",
    DAMAGED: "damaged, truncated, or of an unsupported variant of its format",
    TOO_MANY_PIXELS: "its header declares too many pixels",
    NO_DESCRIPTOR: "the network's descriptor of it is zero or not finite",
    BAD_BOX: "its box is empty or extends beyond the photo",
}
"""Explanation of each code of `status` except OK: why a photo has no descriptor (a row of zeros) or no neighbours."""
